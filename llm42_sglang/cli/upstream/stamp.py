"""The seams table with the signatures of what is installed, for a person to paste."""

import pkgutil
import re
from collections.abc import Iterator

from llm42_sglang.engine.seams import Seam, fingerprint
from llm42_sglang.engine.seams.table import TABLE, parse

GONE = "????????"  # fits no symbol


def stamped() -> Iterator[str]:
    """TABLE's lines. Imports SGLang."""
    seams = iter(parse(TABLE))
    for line in TABLE.splitlines():
        if line.startswith(" "):
            line = re.sub(r"\S+", _signatures(next(seams)), line, count=1)
        yield line


def _signatures(seam: Seam) -> str:
    try:
        now = fingerprint(pkgutil.resolve_name(seam.path))
    except (ImportError, AttributeError):
        return GONE
    if seam.patched is None:
        return now
    # Of the two, the one that is not installed cannot be measured here.
    return f"{seam.signature}|{now}" if now != seam.signature else f"{now}|{seam.patched}"
