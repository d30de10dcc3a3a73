"""The patches, in order: `patches/series` of a checkout, or of the installed package."""

from pathlib import Path
from typing import NamedTuple

from llm42_sglang.cli.patching.diff import FileDiff, parse

# In a checkout a link to the folder at the root; in an installed package the files themselves.
FOLDER = Path(__file__).parents[2] / "patches"


class Patch(NamedTuple):
    """One file of the series."""

    name: str
    diffs: tuple[FileDiff, ...]


def load() -> tuple[Patch, ...]:
    """The patches that `series` names. No file is in two of them, so each is patched or not."""
    names = (FOLDER / "series").read_text().split()
    return tuple(Patch(name, parse((FOLDER / name).read_bytes())) for name in names)
