"""The sglang wheel the patches go onto, and in which state each of its files is.

The wheel's own RECORD has the sha256 of every file as shipped: that is what pristine means.
"""

import base64
import csv
import hashlib
import sys
from collections.abc import Sequence
from enum import Enum
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import NamedTuple

from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.patching.diff import FileDiff, Mismatch
from llm42_sglang.cli.patching.files import Change
from llm42_sglang.cli.patching.series import Patch
from llm42_sglang.engine.launch import PINNED_SGLANG

REINSTALL = f"pip install --force-reinstall --no-deps sglang=={PINNED_SGLANG}"


class State(Enum):
    """Of a file, a patch, or the whole series; the values are for people."""

    PRISTINE = "not applied"
    PATCHED = "applied"
    HALF = "half applied"  # of a patch or the series: some of its files are
    ALTERED = "altered"  # of a file: neither as shipped nor as patched


class Wheel(NamedTuple):
    """An installed sglang of the pinned version."""

    root: Path  # the folder that holds the package, such as site-packages
    digests: dict[str, str]  # path relative to root -> sha256 as RECORD writes it

    def shipped(self, path: str, content: bytes) -> bool:
        """Whether the file, its path relative to root, had this content in the wheel."""
        return self.digests.get(path) == _digest(content)


class File(NamedTuple):
    """A file of the wheel that a patch changes."""

    path: Path
    state: State
    shipped: bytes = b""  # both unknown if the file is altered
    patched: bytes = b""
    complaint: str = ""

    def towards(self, goal: State) -> Change:
        """The change that brings the file there."""
        both = (self.shipped, self.patched)
        old, new = both if goal is State.PATCHED else reversed(both)
        return Change(self.path, old, new)


def find_wheel(root: Path | None = None) -> Wheel:
    """The sglang in `root`, or the installed one. Raises UserError unless it is the pinned one."""
    path = sys.path if root is None else [str(root)]
    found = distributions(name="sglang", path=path)
    wheel = next(iter(found), None)
    where = "installed" if root is None else f"in {root}"
    if wheel is None:
        raise UserError(f"no sglang is {where}; pip install sglang=={PINNED_SGLANG}")
    if wheel.version != PINNED_SGLANG:
        raise UserError(
            f"sglang {wheel.version} is {where}, the patches are for {PINNED_SGLANG}: "
            f"pip install sglang=={PINNED_SGLANG}"
        )
    return Wheel(Path(str(wheel.locate_file(""))), _digests(wheel))


def _digests(wheel: Distribution) -> dict[str, str]:
    rows = csv.reader((wheel.read_text("RECORD") or "").splitlines())
    return {row[0]: row[1] for row in rows if len(row) > 1}


def examine(wheel: Wheel, patches: Sequence[Patch]) -> dict[str, list[File]]:
    """The files of every patch, by its name. Reads only."""
    return {patch.name: [_examine(wheel, diff) for diff in patch.diffs] for patch in patches}


def combined(states: Sequence[State]) -> State:
    """The state of a patch from those of its files, or of the series from those of its patches."""
    if State.ALTERED in states:
        return State.ALTERED
    return states[0] if len(set(states)) == 1 else State.HALF


def _examine(wheel: Wheel, diff: FileDiff) -> File:
    path = wheel.root / diff.path
    if diff.path not in wheel.digests:
        raise UserError(
            f"this sglang has no record of {diff.path}; patches go onto the wheel from PyPI: "
            f"{REINSTALL}"
        )
    try:
        content = path.read_bytes()
        if wheel.shipped(diff.path, content):
            return File(path, State.PRISTINE, content, diff.apply(content))
        shipped = diff.revert(content)
    except OSError as error:
        return File(path, State.ALTERED, complaint=f"cannot be read: {error.strerror}")
    except Mismatch as error:
        return File(path, State.ALTERED, complaint=f"see its line {error.line}")
    if wheel.shipped(diff.path, shipped):
        return File(path, State.PATCHED, shipped, content)
    return File(path, State.ALTERED, complaint="outside the lines that the patch changes")


def _digest(content: bytes) -> str:
    """As in RECORD (PEP 376)."""
    encoded = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return "sha256=" + encoded.rstrip(b"=").decode()
