"""What a benchmark prints and writes: hardware, workload, table, and JSON as the last line."""

import io
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.hardware import hardware
from llm42_sglang.files import replacing, write_whole
from llm42_sglang.report import page as report_page
from llm42_sglang.report.bench import bench_page

if TYPE_CHECKING:
    from markupsafe import Markup

FILE_WIDTH = 160  # columns, where the output is no terminal
PAGE_INK = "#010203"  # stands for the text colour of the page

Draw = Callable[[Sequence[Any]], None]
Shown = tuple[str, report_page.Table]


def show(
    title: str,
    workload: Mapping[str, Any],
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
) -> Shown:
    """A table under its hardware and workload; returns it for `page`."""
    print("hardware:", _pairs(hardware()))
    print("workload:", _pairs(workload))
    table(title, columns, rows)
    return title, report_page.Table(columns, [list(map(cell, row)) for row in rows])


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
    """Three digits that matter; a dash where there is nothing."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def require_writable(*paths: Path | None) -> None:
    """Before the work, not after it. Raises UserError."""
    for path in paths:
        if path is not None and not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
            raise UserError(f"cannot write {path}: {path.parent} is no folder that can be written")


def finish(result: Mapping[str, Any], workload: Mapping[str, Any], out: Path | None) -> None:
    """Print the JSON line, and write it too if asked for."""
    command = shlex.join(["llm42", *sys.argv[1:]])
    full = {"command": command, "hardware": hardware(), "workload": dict(workload), **result}
    if out is not None:
        with replacing(out) as new:
            new.write_text(json.dumps(full, indent=1) + "\n")
    print(json.dumps(full), flush=True)


def plot(path: Path | None, panels: int, draw: Draw) -> None:
    """A PNG of `panels` axes side by side, drawn by `draw`; nothing without a path."""
    if path is None:
        return
    with _figure((1, panels), draw) as figure, replacing(path) as new:
        figure.savefig(new, dpi=150, format="png")


def page(
    path: Path | None,
    command: str,
    workload: Mapping[str, Any],
    tables: Sequence[Shown],
    panels: int = 0,
    draw: Draw | None = None,
) -> None:
    """An HTML page of the tables and of what `plot` draws; nothing without a path."""
    if path is None:
        return
    drawings = [] if draw is None else [_svg(panels, draw)]
    write_whole(path, bench_page(f"bench {command}", hardware(), workload, tables, drawings))


def _svg(panels: int, draw: Draw) -> "Markup":
    """One panel below the other, for a phone; in the colours of the page it stands in."""
    import matplotlib
    from markupsafe import Markup

    names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    style = dict.fromkeys(names, PAGE_INK) | {
        "legend.framealpha": 0,
        "svg.fonttype": "none",
        "svg.hashsalt": "llm42",
    }
    text = io.StringIO()
    with matplotlib.rc_context(style), _figure((panels, 1), draw) as figure:
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    drawing = re.sub(r"<metadata>.*?</metadata>", "", text.getvalue(), flags=re.DOTALL)
    return Markup(drawing[drawing.index("<svg") :].replace(PAGE_INK, "currentColor"))


@contextmanager
def _figure(grid: tuple[int, int], draw: Draw) -> Iterator[Any]:
    """Drawn on, rows by columns."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows, columns = grid
    size = (5.5 * columns, 4 * rows)
    figure, axes = pyplot.subplots(*grid, figsize=size, layout="constrained", squeeze=False)
    try:
        draw(list(axes.flat))
        yield figure
    finally:
        pyplot.close(figure)


def _pairs(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
