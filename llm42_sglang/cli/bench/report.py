"""What a benchmark prints and writes: hardware, workload, table, and JSON as the last line."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from llm42_sglang.cli.errors import UserError

FILE_WIDTH = 160  # columns, where the output is no terminal


def hardware() -> dict[str, Any]:
    """What this machine is, as far as it changes a number."""
    return {
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "sglang": _version("sglang"),
    }


def show(title: str, workload: Mapping[str, Any], columns: Sequence[str], rows: Sequence[Sequence]):
    """A table under its hardware and workload. Cells are shown by `cell`."""
    console = Console() if sys.stdout.isatty() else Console(width=FILE_WIDTH)
    table = Table(title=title)
    for i, column in enumerate(columns):
        text = all(isinstance(row[i], str) for row in rows)
        table.add_column(column, justify="left" if text else "right")
    for row in rows:
        table.add_row(*map(cell, row))
    print("hardware:", _pairs(hardware()))
    print("workload:", _pairs(workload))
    console.print(table)


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


def plot(path: Path | None, panels: int, draw: Callable[[Sequence[Any]], None]) -> None:
    """A PNG of `panels` axes side by side, drawn by `draw`; nothing without a path."""
    if path is None:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = (5.5 * panels, 4)
    figure, axes = pyplot.subplots(1, panels, figsize=size, layout="constrained", squeeze=False)
    draw(list(axes[0]))
    with replacing(path) as new:
        figure.savefig(new, dpi=150, format="png")
    pyplot.close(figure)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; the file takes the place of `path` when it is complete, or never."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield new
        os.replace(new, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from error
    finally:
        new.unlink(missing_ok=True)


def _pairs(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
