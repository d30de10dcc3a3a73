"""A seam is a symbol of SGLang's that we rely on; how it is compared with what is installed."""

import hashlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from llm42_sglang.engine.errors import SeamError
from llm42_sglang.engine.names import PINNED_SGLANG

REMEDY = f"Install the pinned SGLang: pip install sglang=={PINNED_SGLANG}"
_NOTATION = re.compile(r"([\w.]+\w)(\.?)(?:\{([\w,]+)\})?")


@dataclass(frozen=True, slots=True)
class Seam:
    """One symbol: its dotted path, and what it is needed to do."""

    path: str
    why: str

    @property
    def row(self) -> str:
        """What a person reads at once when SGLang changes: of a member its class, else the path."""
        owner = self.path.rpartition(".")[0]
        return owner if owner.rpartition(".")[2].lstrip("_")[:1].isupper() else self.path


def seams_of(notation: str, why: str) -> tuple[Seam, ...]:
    """`a.f` is one symbol; `a.C.{g,h}` are two methods, `a.C{g,h}` the class as well."""
    match = _NOTATION.fullmatch(notation)
    assert match is not None, f"{notation} names no seam"
    path, members_alone, members = match.groups()
    names = [f"{path}.{member}" for member in members.split(",")] if members else []
    return tuple(Seam(name, why) for name in ([] if members_alone else [path]) + names)


def each_once(seams: Iterable[Seam]) -> tuple[Seam, ...]:
    """A symbol that is needed for several things has all of them in one place."""
    whys: dict[str, dict[str, None]] = {}
    for seam in seams:
        whys.setdefault(seam.path, {})[seam.why] = None
    return tuple(Seam(path, "; ".join(all_of_it)) for path, all_of_it in whys.items())


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
