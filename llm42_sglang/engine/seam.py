"""A seam is a symbol of SGLang's that we rely on, by its dotted path, and why."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

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
