"""What commands print: tables on standard output, progress on stderr. Also --report."""

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

FILE_WIDTH = 160  # columns of output that is no terminal


def _drawable(page: Path | None) -> Path | None:
    """Check before the work begins that the page can be drawn after it."""
    if page is not None:
        require(f"drawing {page}", "jinja2")
    return page


Report = Annotated[
    Path | None,
    typer.Option("--report", help="Write an HTML page here.", callback=_drawable),
]
Out = Annotated[Path | None, typer.Option("--out", help="Write the JSON here as well.")]


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table. `cell` makes the text of each cell, and numbers are aligned to the right."""
    shown = Table(title=title)
    for i, column in enumerate(columns):
        text = all(isinstance(row[i], str) for row in rows)
        shown.add_column(column, justify="left" if text else "right")
    for row in rows:
        shown.add_row(*map(cell, row))
    console().print(shown)


def console() -> Console:
    """Standard output, which is wide if it is no terminal. Nothing is read as rich's markup."""
    width = None if sys.stdout.isatty() else FILE_WIDTH
    return Console(width=width, markup=False, emoji=False)


def cell(value: Any) -> str:
    """The text of a cell: numbers with three digits, a dash for None, no control characters."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return printable(str(value))


def require_writable(*paths: Path | None) -> None:
    """Check before the work begins that these files can be written after it. Raises UserError."""
    for path in paths:
        if path is not None and not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
            raise UserError(f"cannot write {path}: {path.parent} is no folder that can be written")


def say(message: str) -> None:
    """Print a line of progress."""
    print(f"llm42: {printable(message)}", file=sys.stderr, flush=True)


@contextmanager
def bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal, else one line. Yields a function to be called `total` times."""
    console = Console(stderr=True)
    if not console.is_terminal:
        say(title)
        yield lambda: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)
