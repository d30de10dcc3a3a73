"""What commands print: tables on standard output, progress on stderr; and files they can write."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from llm42_sglang.errors import UserError, printable
from llm42_sglang.tools import require

FILE_WIDTH = 160  # columns, where the output is no terminal


def _drawable(page: Path | None) -> Path | None:
    """Before the work, not after it."""
    if page is not None:
        require(f"drawing {page}", "jinja2")
    return page


Page = Annotated[
    Path | None,
    typer.Option("--report", help="Write an HTML page here.", callback=_drawable),
]


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Cells are shown by `cell`, columns of numbers to the right."""
    shown = Table(title=title)
    for i, column in enumerate(columns):
        text = all(isinstance(row[i], str) for row in rows)
        shown.add_column(column, justify="left" if text else "right")
    for row in rows:
        shown.add_row(*map(cell, row))
    console().print(shown)


def console() -> Console:
    """Standard output, wide where it is no terminal. What models and users wrote is no markup."""
    width = None if sys.stdout.isatty() else FILE_WIDTH
    return Console(width=width, markup=False, emoji=False)


def cell(value: Any) -> str:
    """Three digits that matter; a dash where there is nothing; text without controls."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return printable(str(value))


def require_writable(*paths: Path | None) -> None:
    """Before the work, not after it. Raises UserError."""
    for path in paths:
        if path is not None and not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
            raise UserError(f"cannot write {path}: {path.parent} is no folder that can be written")


def say(message: str) -> None:
    """One line."""
    print(f"llm42: {message}", file=sys.stderr, flush=True)


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Yields what is to be called `total` times: a bar on a terminal, else one line."""
    console = Console(stderr=True)
    if not console.is_terminal:
        say(title)
        yield lambda: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)
