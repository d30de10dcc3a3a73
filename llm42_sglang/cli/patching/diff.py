"""Unified diffs with zero fuzz: every context and removed line matches at its stated line, or not.

Lines are bytes with their line ends, so whitespace, CRLF and a missing last newline count.
"""

import io
import re
from typing import NamedTuple

_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@.*\n")
_CONTEXT, _REMOVED, _ADDED = b" ", b"-", b"+"
_SWAPPED = {_CONTEXT: _CONTEXT, _REMOVED: _ADDED, _ADDED: _REMOVED}

Line = tuple[bytes, bytes]  # (mark, text with its line end)


class MalformedPatch(ValueError):
    """The patch file is not a unified diff as `diff -u` writes it."""


class Mismatch(ValueError):
    """The content is not what the patch expects; `line` counts from 1."""

    def __init__(self, line: int):
        super().__init__(f"line {line} is not what the patch expects")
        self.line = line


class Hunk(NamedTuple):
    """One change with its context. Line numbers count from 1."""

    old_start: int
    new_start: int
    lines: tuple[Line, ...]

    @property
    def old(self) -> list[bytes]:
        """The lines before the change."""
        return [text for mark, text in self.lines if mark != _ADDED]

    @property
    def new(self) -> list[bytes]:
        """The lines after the change."""
        return [text for mark, text in self.lines if mark != _REMOVED]

    def reversed(self) -> "Hunk":
        """The hunk that undoes this one."""
        swapped = tuple((_SWAPPED[mark], text) for mark, text in self.lines)
        return Hunk(self.new_start, self.old_start, swapped)


class FileDiff(NamedTuple):
    """The changes to one file; `path` is relative to the folder that holds the package."""

    path: str
    hunks: tuple[Hunk, ...]

    def apply(self, content: bytes) -> bytes:
        """The changed content. Raises Mismatch."""
        lines = _lines(content)
        changed: list[bytes] = []
        done = 0  # lines[0:done] are dealt with
        for hunk in self.hunks:
            begin = hunk.old_start - 1
            _require(lines, begin, hunk.old)
            changed += lines[done:begin]
            if begin < done or len(changed) != hunk.new_start - 1:
                raise MalformedPatch(f"{self.path}: line numbers of a hunk do not add up")
            changed += hunk.new
            done = begin + len(hunk.old)
        return b"".join(changed + lines[done:])

    def revert(self, content: bytes) -> bytes:
        """The inverse of `apply`. Raises Mismatch."""
        return FileDiff(self.path, tuple(hunk.reversed() for hunk in self.hunks)).apply(content)


def parse(patch: bytes) -> tuple[FileDiff, ...]:
    """The files a patch changes. What stands before the first `---` line is its header."""
    lines = _lines(patch)
    starts = (i for i, line in enumerate(lines) if line.startswith(b"--- "))
    at = next(starts, len(lines))
    diffs = []
    while at < len(lines):
        diff, at = _file_diff(lines, at)
        diffs.append(diff)
    if not diffs:
        raise MalformedPatch("the patch changes nothing")
    return tuple(diffs)


def _file_diff(lines: list[bytes], at: int) -> tuple[FileDiff, int]:
    old, new = (*lines[at : at + 2], b"", b"")[:2]
    path = old.removeprefix(b"--- a/").rstrip(b"\n")
    if old != b"--- a/" + path + b"\n" or new != b"+++ b/" + path + b"\n":
        raise MalformedPatch(f"line {at + 1}: expected '--- a/FILE' and '+++ b/FILE'")
    at += 2
    hunks = []
    while at < len(lines) and not lines[at].startswith(b"--- "):
        hunk, at = _hunk(lines, at)
        hunks.append(hunk)
    return FileDiff(path.decode(), tuple(hunks)), at


def _hunk(lines: list[bytes], at: int) -> tuple[Hunk, int]:
    head = _HUNK.fullmatch(lines[at])
    if head is None:
        raise MalformedPatch(f"line {at + 1}: expected a hunk")
    old_start, old_count, new_start, new_count = (int(n or 1) for n in head.groups())
    body: list[Line] = []
    left = [old_count, new_count]
    while any(left):
        at += 1
        mark, text = (lines[at][:1], lines[at][1:]) if at < len(lines) else (b"", b"")
        left[0] -= mark != _ADDED
        left[1] -= mark != _REMOVED
        if mark not in _SWAPPED or min(left) < 0 or not text.endswith(b"\n"):
            raise MalformedPatch(f"line {at + 1}: the hunk does not have the lines it states")
        body.append((mark, text))
    return Hunk(old_start, new_start, tuple(body)), at + 1


def _require(lines: list[bytes], begin: int, expected: list[bytes]) -> None:
    for index, text in enumerate(expected, begin):
        if index >= len(lines) or lines[index] != text:
            raise Mismatch(index + 1)


def _lines(content: bytes) -> list[bytes]:
    return io.BytesIO(content).readlines()  # at \n only; bytes.splitlines takes \r too
