"""`llm42 doctor`: is everything here that a deterministic server needs? The exit status tells."""

import sys
from collections.abc import Callable
from importlib.metadata import entry_points, version
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from llm42_sglang.cli.model import default_model_dir
from llm42_sglang.cli.patch import trouble_of
from llm42_sglang.cli.patching.wheel import State, combined, examine, find_wheel
from llm42_sglang.errors import judging


class Finding(NamedTuple):
    """What one check found."""

    ok: bool
    detail: str


@judging
def doctor(
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="VERSION_OR_WHEEL",
            help="Compare seams and patches with another sglang (a version, 'latest', or a wheel "
            "file) without importing it. Status 1 if anything changed.",
        ),
    ] = None,
    stamp: Annotated[
        bool,
        typer.Option("--stamp", help="Write the signatures of the installed seams to their file."),
    ] = False,
) -> None:
    """Check versions, plugin, seams, patches, device and model cache. Status 1 if one fails."""
    if against is not None:
        from llm42_sglang.cli.upstream import compare

        text, changed = compare.against(against)
        typer.echo(text)
        if changed:
            raise typer.Exit(1)
    elif stamp:
        _stamp()
    else:
        _check_up()


def _stamp() -> None:
    """Write the signatures of what is installed, and say what differs from before."""
    from llm42_sglang.engine.plugin import SEAMS
    from llm42_sglang.engine.seams import signatures

    patched = combined(examine(find_wheel())) is State.PATCHED
    before = signatures.read()
    now = signatures.measured(SEAMS, before, patched)
    for path in sorted({*before, *now}):
        if (old := before.get(path, ())) != (new := now.get(path, ())):
            typer.echo(f"{path}: {' '.join(old) or 'none'} -> {' '.join(new) or 'none'}")
    signatures.write(now)


def _check_up() -> None:
    table = Table("check", "", "finding", box=None, pad_edge=False)
    failed = False
    for name, check in CHECKS.items():
        finding = _run(check)
        failed = failed or not finding.ok
        table.add_row(name, "ok" if finding.ok else "FAILED", finding.detail)
    Console(soft_wrap=True).print(table, markup=False)
    if failed:
        raise typer.Exit(1)


def _run(check: Callable[[], Finding]) -> Finding:
    """A check that breaks is a finding too."""
    try:
        return check()
    except Exception as error:
        return Finding(False, f"{type(error).__name__}: {error}".splitlines()[0])


def _versions() -> Finding:
    from llm42_sglang.engine.start.launch import require_pinned_sglang

    require_pinned_sglang()
    found = ", ".join(f"{name} {version(name)}" for name in ("sglang", "torch"))
    return Finding(True, f"Python {sys.version.split()[0]}, {found}")


def _plugin() -> Finding:
    groups = ("sglang.srt.plugins", "sglang.srt.platforms")
    for group in groups:
        if not any(point.value.startswith("llm42_sglang") for point in entry_points(group=group)):
            return Finding(False, f"no entry point in {group}; in its checkout: pip install -e .")
    return Finding(True, "entry points for plugin and platform are installed")


def _seams() -> Finding:
    from llm42_sglang.cli.upstream.sources import installed
    from llm42_sglang.cli.upstream.symbols import Finder
    from llm42_sglang.engine.names import PINNED_SGLANG
    from llm42_sglang.engine.plugin import SEAMS
    from llm42_sglang.engine.seams import signatures
    from llm42_sglang.engine.seams.check import check
    from llm42_sglang.engine.seams.table import GPU_SEAMS, READ_FOR

    finder = Finder(installed())  # which is the pinned one as shipped, or reading it raises
    if READ_FOR != PINNED_SGLANG:
        return Finding(False, f"the seams were read for sglang {READ_FOR}; see docs/bump.md")
    check(SEAMS, signatures.read())
    seams = (*SEAMS, *GPU_SEAMS)
    if gone := [seam.path for seam in seams if finder.find(seam.path) is None]:
        return Finding(False, f"{gone[0]} is gone; see docs/bump.md")
    rows = len({seam.row for seam in seams})
    return Finding(True, f"{len(seams)} symbols in {rows} places of SGLang are as expected")


def _patches() -> Finding:
    files = examine(find_wheel())
    if trouble := trouble_of(files):
        return Finding(False, trouble)
    names = ", ".join(dict.fromkeys(file.patch.removesuffix(".patch") for file in files))
    return Finding(True, f"{names}: {combined(files).value} (optional)")


def _device() -> Finding:
    from llm42_sglang import platform
    from llm42_sglang.engine.start.fingerprint import device_name

    if platform.activate():
        return Finding(True, f"{device_name('cpu')}, served by the plain-CPU platform")
    return Finding(True, f"{device_name('cuda')}, served by SGLang's own platform")


def _model() -> Finding:
    folder = default_model_dir()
    return Finding(True, str(folder) if folder.is_dir() else "not yet made; see llm42 model")


CHECKS: dict[str, Callable[[], Finding]] = {
    "versions": _versions,
    "plugin": _plugin,
    "seams": _seams,
    "patches": _patches,
    "device": _device,
    "default model": _model,
}
