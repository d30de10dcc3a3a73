"""Unified diffs with zero fuzz: every context and removed line matches at its stated line, or not.

Lines are bytes with their line ends, so whitespace, CRLF and a missing last newline count.
"""

import re
from typing import NamedTuple

_FILE = re.compile(rb"^--- a/(.+)\n\+\+\+ b/\1\n", re.MULTILINE)
_HUNK = re.compile(rb"^@@ -(\d+),(\d+) \+(\d+),(\d+) @@.*\n", re.MULTILINE)


class Mismatch(ValueError):
    """The content is not what the patch expects; `line` counts from 1."""

    def __init__(self, line: int):
        super().__init__(f"line {line} is not what the patch expects")
        self.line = line


class Hunk(NamedTuple):
    """One change: lines with their context, from the line number `start`, counted from 1."""

    start: int
    old: list[bytes]
    new: list[bytes]


class FileDiff(NamedTuple):
    """The changes to one file, there and back; `path` begins with the package's folder."""

    path: str
    forward: list[Hunk]
    backward: list[Hunk]

    def apply(self, content: bytes) -> bytes:
        """The changed content. Raises Mismatch."""
        return _replace(content, self.forward)

    def revert(self, content: bytes) -> bytes:
        """The inverse of `apply`. Raises Mismatch."""
        return _replace(content, self.backward)


def parse(patch: bytes) -> tuple[FileDiff, ...]:
    """The files a patch changes. What stands before the first `---` line is its header.

    Raises ValueError unless it is what `diff -u` writes.
    """
    _, *files = _FILE.split(patch)
    if not files:
        raise ValueError("the patch changes nothing")
    return tuple(
        _file_diff(path.decode(), hunks)
        for path, hunks in zip(files[::2], files[1::2], strict=True)
    )


def _file_diff(path: str, text: bytes) -> FileDiff:
    head, *hunks = _HUNK.split(text)
    if head or not hunks:
        raise ValueError(f"{path}: expected a hunk")
    forward, backward = [], []
    for at in range(0, len(hunks), 5):
        old_start, old_count, new_start, new_count = map(int, hunks[at : at + 4])
        lines = _lines(hunks[at + 4])
        old = [line[1:] for line in lines if line[:1] in b" -"]
        new = [line[1:] for line in lines if line[:1] in b" +"]
        if (len(old), len(new)) != (old_count, new_count) or not _marked(lines):
            raise ValueError(f"{path}: a hunk does not have the lines it states")
        forward.append(Hunk(old_start, old, new))
        backward.append(Hunk(new_start, new, old))
    return FileDiff(path, forward, backward)


def _marked(lines: list[bytes]) -> bool:
    return all(line[:1] in (b" ", b"-", b"+") and line.endswith(b"\n") for line in lines)


def _replace(content: bytes, hunks: list[Hunk]) -> bytes:
    lines = _lines(content)
    changed: list[bytes] = []
    done = 0  # lines[0:done] are dealt with
    for start, old, new in hunks:
        for index, expected in enumerate(old, start - 1):
            if index >= len(lines) or lines[index] != expected:
                raise Mismatch(index + 1)
        changed += lines[done : start - 1] + new
        done = start - 1 + len(old)
    return b"".join(changed + lines[done:])


def _lines(content: bytes) -> list[bytes]:
    return re.findall(rb".*\n|.+", content)  # at \n only; bytes.splitlines takes \r too
