"""`llm42 patch`: text patches of the installed sglang, for what no hook can reach."""

from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from llm42_sglang.cli.patching.files import Change, replace_all
from llm42_sglang.cli.patching.wheel import (
    File,
    State,
    altered,
    combined,
    examine,
    find_wheel,
    load_patches,
)
from llm42_sglang.errors import UserError

app = typer.Typer(help="Apply, revert or show the optional patches on the installed sglang.")
Root = Annotated[
    Path | None,
    typer.Option("--root", help="A folder with an sglang to patch; default: the installed one."),
]


@app.command()
def apply(root: Root = None) -> None:
    """Apply all patches, or none if one does not fit exactly."""
    _bring(State.PATCHED, "applied", root)


@app.command()
def revert(root: Root = None) -> None:
    """Restore every patched file to the bytes that it was shipped with."""
    _bring(State.PRISTINE, "reverted", root)


@app.command()
def status(root: Root = None) -> None:
    """Show which patches are applied. Status 1 if a file is altered or only some are applied."""
    files = examine(find_wheel(root))
    for name, of_patch in groupby(files, lambda file: file.patch):
        typer.echo(f"{name}: {combined(of_patch).value}")
    if trouble := trouble_of(files):
        raise UserError(trouble)


def trouble_of(files: list[File]) -> str | None:
    """One line that says why the series is in no clear state; None if it is applied or not."""
    if combined(files) is State.HALF:
        return "only some files are patched; finish with llm42 patch apply, or llm42 patch revert"
    return altered(files)


def _bring(goal: State, done: str, root: Path | None) -> None:
    """Bring all files into the state `goal`. After a crash some may be in it already."""
    wheel = find_wheel(root)
    files = examine(wheel)
    if trouble := altered(files):
        raise UserError(trouble)
    changes = [
        Change(file.path, file.shipped, file.patched)
        if goal is State.PATCHED
        else Change(file.path, file.patched, file.shipped)
        for file in files
        if file.state is not goal
    ]
    try:
        replace_all(changes)
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename}: {error.strerror}; nothing was changed"
        ) from None
    where = f"{len(changes)} files in {wheel.root}" if changes else "nothing to do"
    typer.echo(f"{len(load_patches())} patches {done}: {where}")
