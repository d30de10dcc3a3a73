"""The patches, in order: `patches/series` of a checkout, or of the installed package."""

from pathlib import Path
from typing import NamedTuple

from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.patching.diff import FileDiff, MalformedPatch, parse

# In a checkout a link to the folder at the root; in an installed package the files themselves.
FOLDER = Path(__file__).parents[2] / "patches"


class Patch(NamedTuple):
    """One file of the series."""

    name: str
    diffs: tuple[FileDiff, ...]


def load(folder: Path = FOLDER) -> tuple[Patch, ...]:
    """The patches that `series` names. Raises UserError if one is missing or malformed."""
    try:
        names = (folder / "series").read_text().split()
        patches = tuple(Patch(name, parse((folder / name).read_bytes())) for name in names)
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename}: {error.strerror}; install llm42-sglang again"
        ) from None
    except MalformedPatch as error:
        raise UserError(f"malformed patch in {folder}: {error}") from None
    _refuse_overlap(patches)
    return patches


def _refuse_overlap(patches: tuple[Patch, ...]) -> None:
    """No file is changed twice, so that each is either pristine or patched, nothing in between."""
    seen: set[str] = set()
    for patch in patches:
        for diff in patch.diffs:
            if diff.path in seen:
                raise UserError(f"{patch.name} changes {diff.path} a second time; merge the two")
            seen.add(diff.path)
