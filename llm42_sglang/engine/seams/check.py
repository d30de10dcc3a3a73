"""How seams are compared with what is installed."""

import hashlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Mapping
from enum import Enum

from llm42_sglang.engine.errors import SeamError
from llm42_sglang.engine.names import PINNED_SGLANG
from llm42_sglang.engine.seam import Seam

REMEDY = f"Install the pinned SGLang: pip install sglang=={PINNED_SGLANG}"


def fingerprint(symbol: object) -> str:
    """Short hash of a signature, or of an enum's members; the type's name for anything else."""
    if isinstance(symbol, type) and issubclass(symbol, Enum):
        text = " ".join(symbol.__members__)
    elif callable(symbol):
        # Defaults that are functions print their address.
        text = re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(symbol)))
        text = with_sorted_unions(text)
    else:
        return type(symbol).__name__
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def with_sorted_unions(text: str) -> str:
    """A signature's text, the members of every `Union[...]` in order of the alphabet.

    Python keeps one object for equal unions, written in whatever order came first: the text of one
    module's signature would depend on what was imported before it.
    """
    before, union, rest = text.partition("Union[")
    if not union:
        return text
    members, depth, start = [], 0, 0
    for end, sign in enumerate(rest):
        if depth == 0 and sign in ",]":
            members.append(with_sorted_unions(rest[start:end].strip()))
            start = end + 1
            if sign == "]":
                break
        depth += {"[": 1, "]": -1}.get(sign, 0)
    return f"{before}Union[{', '.join(sorted(members))}]{with_sorted_unions(rest[start:])}"


def check(seams: Iterable[Seam], signatures: Mapping[str, tuple[str, ...]]) -> None:
    """Raise SeamError naming the first symbol that is gone, or has none of the signatures that are
    known of it."""
    for seam in seams:
        try:
            symbol = pkgutil.resolve_name(seam.path)
        except (ImportError, AttributeError) as error:
            raise SeamError(
                f"seam {seam.path} is gone ({error}); it is needed to {seam.why}. {REMEDY}"
            ) from None
        if fingerprint(symbol) not in signatures.get(seam.path, ()):
            raise SeamError(
                f"seam {seam.path} has changed its signature; it is needed to {seam.why}. {REMEDY}"
            )
