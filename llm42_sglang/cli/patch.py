"""`llm42 patch`: text patches on the installed sglang, for what no hook can reach."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.patching import series
from llm42_sglang.cli.patching.files import replace_all
from llm42_sglang.cli.patching.wheel import (
    REINSTALL,
    File,
    State,
    combined,
    examine,
    find_wheel,
)

app = typer.Typer(help="Apply, revert or show the optional patches on the installed sglang.")
Root = Annotated[
    Path | None,
    typer.Option("--root", help="A folder that holds sglang, in place of the installed one."),
]


@app.command()
def apply(root: Root = None) -> None:
    """Apply all patches, or none if one does not fit to the letter."""
    _bring(State.PATCHED, "applied", root)


@app.command()
def revert(root: Root = None) -> None:
    """Restore every patched file, byte by byte."""
    _bring(State.PRISTINE, "reverted", root)


@app.command()
def status(root: Root = None) -> None:
    """Show which patches are applied. Status 1 if a file is altered or only some are applied."""
    survey = examine(find_wheel(root), series.load())
    for name, files in survey.items():
        typer.echo(f"{name}: {_state(files).value}")
    if trouble := trouble_of(survey):
        raise UserError(trouble)


def trouble_of(survey: dict[str, list[File]]) -> str | None:
    """One line about what keeps the series from being either applied or not; None if nothing."""
    if altered := _altered(survey):
        return altered
    if _state(_all(survey)) is State.HALF:
        return "only some files are patched; finish with llm42 patch apply, or llm42 patch revert"
    return None


def _bring(goal: State, done: str, root: Path | None) -> None:
    """All files to `goal`; those that are there already, after a crash for instance, stay."""
    wheel = find_wheel(root)
    survey = examine(wheel, series.load())
    if altered := _altered(survey):
        raise UserError(altered)
    changes = [file.towards(goal) for file in _all(survey) if file.state is not goal]
    try:
        replace_all(changes)
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename}: {error.strerror}; nothing was changed"
        ) from None
    where = f"{len(changes)} files in {wheel.root}" if changes else "nothing to do"
    typer.echo(f"{len(survey)} patches {done}: {where}")


def _altered(survey: dict[str, list[File]]) -> str | None:
    for file in _all(survey):
        if file.state is State.ALTERED:
            return f"{file.path} was altered by something else, {file.complaint}; {REINSTALL}"
    return None


def _all(survey: dict[str, list[File]]) -> list[File]:
    return [file for files in survey.values() for file in files]


def _state(files: Iterable[File]) -> State:
    return combined([file.state for file in files])
