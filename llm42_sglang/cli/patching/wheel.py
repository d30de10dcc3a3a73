"""The patches, the sglang wheel that they go onto, and the state of each of its files.

A file is pristine if it has the sha256 that the wheel's own RECORD names.
"""

import base64
import csv
import hashlib
import sys
from collections.abc import Iterable
from enum import Enum
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

from llm42_sglang.cli.patching.diff import FileDiff, Mismatch, parse
from llm42_sglang.engine.names import PINNED_SGLANG
from llm42_sglang.errors import UserError

# In a checkout a link to the folder at the root; in an installed package the files themselves.
PATCHES = Path(__file__).parents[2] / "patches"
REINSTALL = f"pip install --force-reinstall --no-deps sglang=={PINNED_SGLANG}"


class State(Enum):
    """The state of a file, a patch, or the whole series. The values are shown to people."""

    PRISTINE = "not applied"
    PATCHED = "applied"
    HALF = "half applied"  # a patch or the series, of which some files are patched
    ALTERED = "altered"  # a file that is neither as shipped nor as patched


class Wheel(NamedTuple):
    """An installed sglang of the pinned version."""

    root: Path  # the folder that holds the package, such as site-packages
    digests: dict[str, str]  # path relative to root -> sha256 as RECORD writes it (PEP 376)

    def shipped(self, path: str, content: bytes) -> bool:
        """Whether the file, its path relative to root, had this content in the wheel."""
        encoded = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
        return self.digests.get(path) == "sha256=" + encoded.rstrip(b"=").decode()


class File(NamedTuple):
    """A file of the wheel that a patch changes."""

    patch: str
    path: Path
    state: State
    shipped: bytes = b""  # both unknown if the file is altered
    patched: bytes = b""
    complaint: str = ""


def load_patches() -> dict[str, list[FileDiff]]:
    """The patches by name, in the order of `series`. No file is changed by two of them."""
    names = (PATCHES / "series").read_text().split()
    return {name: parse((PATCHES / name).read_bytes()) for name in names}


def find_wheel(root: Path | None = None) -> Wheel:
    """The sglang in `root`, or the installed one. Raises UserError unless it is the pinned one."""
    path = sys.path if root is None else [str(root)]
    where = "installed" if root is None else f"in {root}"
    sglang = next(iter(distributions(name="sglang", path=path)), None)
    if sglang is None:
        raise UserError(f"no sglang is {where}; pip install sglang=={PINNED_SGLANG}")
    if sglang.version != PINNED_SGLANG:
        raise UserError(
            f"sglang {sglang.version} is {where}, the patches are for {PINNED_SGLANG}: "
            f"pip install sglang=={PINNED_SGLANG}"
        )
    rows = csv.reader((sglang.read_text("RECORD") or "").splitlines())
    digests = {row[0]: row[1] for row in rows if len(row) > 1}
    return Wheel(Path(str(sglang.locate_file(""))), digests)


def examine(wheel: Wheel) -> list[File]:
    """The state of every file of every patch. Nothing is written."""
    patches = load_patches()
    return [_examine(wheel, name, diff) for name, diffs in patches.items() for diff in diffs]


def combined(files: Iterable[File]) -> State:
    """The state of a patch or of the series, from the states of its files."""
    states = {file.state for file in files}
    if State.ALTERED in states:
        return State.ALTERED
    return states.pop() if len(states) == 1 else State.HALF


def altered(files: Iterable[File]) -> str | None:
    """One line about a file that is neither as shipped nor as patched; None if there is none."""
    for file in files:
        if file.state is State.ALTERED:
            return f"{file.path} was altered by something else, {file.complaint}; {REINSTALL}"
    return None


def _examine(wheel: Wheel, patch: str, diff: FileDiff) -> File:
    path = wheel.root / diff.path
    if diff.path not in wheel.digests:
        raise UserError(
            f"this sglang has no record of {diff.path}; patches go onto the wheel from PyPI: "
            f"{REINSTALL}"
        )
    complaint = "outside the lines that the patch changes"
    try:
        content = path.read_bytes()
        if wheel.shipped(diff.path, content):
            return File(patch, path, State.PRISTINE, content, diff.apply(content))
        shipped = diff.revert(content)
        if wheel.shipped(diff.path, shipped):
            return File(patch, path, State.PATCHED, shipped, content)
    except OSError as error:
        complaint = f"cannot be read: {error.strerror}"
    except Mismatch as error:
        complaint = str(error)
    return File(patch, path, State.ALTERED, complaint=complaint)
