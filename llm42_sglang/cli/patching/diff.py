"""Unified diffs with zero fuzz: every context or removed line must be at the line that is stated.

Lines are bytes with their ends. So whitespace, CRLF and a missing last newline make a difference.
"""

import re
from typing import NamedTuple

_FILE = re.compile(rb"^--- a/(.+)\n\+\+\+ b/\1\n", re.MULTILINE)
_HUNK = re.compile(rb"^@@ -(\d+),(\d+) \+(\d+),(\d+) @@.*\n", re.MULTILINE)


class Mismatch(ValueError):
    """The content is not what the patch expects."""


class Hunk(NamedTuple):
    """One change: lines with their context. `start` is the first line's number, from 1."""

    start: int
    old: list[bytes]
    new: list[bytes]


class FileDiff(NamedTuple):
    """The changes to one file, and their inverse. `path` begins with the package's folder."""

    path: str
    forward: list[Hunk]
    backward: list[Hunk]

    def apply(self, content: bytes) -> bytes:
        """The changed content. Raises Mismatch."""
        return _replace(content, self.forward)

    def revert(self, content: bytes) -> bytes:
        """The inverse of `apply`. Raises Mismatch."""
        return _replace(content, self.backward)


def parse(patch: bytes) -> list[FileDiff]:
    """The files that a patch changes. The text before the first `---` line is skipped.

    Raises ValueError unless the rest is what `diff -u` writes.
    """
    _, *files = _FILE.split(patch)
    if not files:
        raise ValueError("the patch changes nothing")
    return [_file_diff(path, text) for path, text in zip(files[::2], files[1::2], strict=True)]


def _file_diff(path: bytes, text: bytes) -> FileDiff:
    head, *parts = _HUNK.split(text)
    diff = FileDiff(path.decode(), [], [])
    for old_start, old_count, new_start, new_count, body in zip(*[iter(parts)] * 5, strict=True):
        lines = _lines(body)
        old = [line[1:] for line in lines if line[:1] in b" -"]
        new = [line[1:] for line in lines if line[:1] in b" +"]
        marked = all(line[:1] in b" -+" and line.endswith(b"\n") for line in lines)
        if not marked or (len(old), len(new)) != (int(old_count), int(new_count)):
            raise ValueError(f"{diff.path}: a hunk does not have the lines it states")
        diff.forward.append(Hunk(int(old_start), old, new))
        diff.backward.append(Hunk(int(new_start), new, old))
    if head or not diff.forward:
        raise ValueError(f"{diff.path}: expected a hunk")
    return diff


def _replace(content: bytes, hunks: list[Hunk]) -> bytes:
    lines = _lines(content)
    changed: list[bytes] = []
    done = 0  # lines[0:done] are in `changed`
    for start, old, new in hunks:
        for index, expected in enumerate(old, start - 1):
            if lines[index : index + 1] != [expected]:
                raise Mismatch(f"line {index + 1} is not what the patch expects")
        changed += lines[done : start - 1] + new
        done = start - 1 + len(old)
    return b"".join(changed + lines[done:])


def _lines(content: bytes) -> list[bytes]:
    return re.findall(rb".*\n|.+", content)  # at \n only; bytes.splitlines takes \r too
