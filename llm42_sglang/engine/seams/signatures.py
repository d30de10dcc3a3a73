"""The fingerprint of every symbol's signature: a file that `llm42 doctor --stamp` writes.

A line is a dotted path and one fingerprint. A second one is that of the symbol as `llm42 patch`
changes it; the symbol fits with either.
"""

import pkgutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from llm42_sglang.engine.seam import Seam
from llm42_sglang.engine.seams.check import fingerprint
from llm42_sglang.files import write_whole

FILE = Path(__file__).with_suffix(".txt")
GONE = "????????"  # fits no symbol

Signatures = Mapping[str, tuple[str, ...]]  # by dotted path


def read() -> Signatures:
    """What the file holds."""
    rows = (line.split() for line in FILE.read_text().splitlines())
    return {path: tuple(fingerprints) for path, *fingerprints in rows}


def write(signatures: Signatures) -> None:
    """Replace the file."""
    rows = (" ".join((path, *signatures[path])) for path in sorted(signatures))
    write_whole(FILE, "".join(f"{row}\n" for row in rows))


def measured(seams: Iterable[Seam], known: Signatures, patched: bool) -> Signatures:
    """The signatures of what is installed.

    Of a symbol with two, the one that is not installed stays as it is known. patched: whether the
    installed SGLang is the patched one.
    """
    paths = [seam.path for seam in seams]
    return {path: _pair(_now(path), known.get(path, ()), patched) for path in paths}


def _pair(now: str, known: tuple[str, ...], patched: bool) -> tuple[str, ...]:
    shipped, other = (known[:1] or (now,), (now,)) if patched else ((now,), known[1:])
    return tuple(dict.fromkeys((*shipped, *other)))


def _now(path: str) -> str:
    try:
        return fingerprint(pkgutil.resolve_name(path))
    except (ImportError, AttributeError):
        return GONE
