"""What another SGLang does to the seams and to the text patches."""

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from llm42_sglang.cli.patching.diff import FileDiff, Mismatch
from llm42_sglang.cli.patching.series import Patch
from llm42_sglang.cli.upstream.modules import Modules
from llm42_sglang.cli.upstream.symbols import Symbol, find
from llm42_sglang.engine.seams import Seam


class Verdict(Enum):
    """Of a seam, worst first; the values are for people."""

    GONE = "gone"
    MOVED = "moved"
    SIGNATURE = "signature changed"
    BODY = "body changed"
    SAME = "unchanged"


class Comparison(NamedTuple):
    """One seam in the other SGLang."""

    seam: Seam
    verdict: Verdict
    details: tuple[str, ...] = ()


class Trial(NamedTuple):
    """One patch on the other SGLang; no complaints: it applies with zero fuzz."""

    name: str
    complaints: tuple[str, ...]


def compare(seams: Sequence[Seam], mine: Modules, other: Modules) -> list[Comparison]:
    """Every seam as `mine` has it against `other`, in the order of the table.

    Raises KeyError for a seam that `mine` does not have itself.
    """
    return [_compare(seam, _own(seam, mine), find(other, seam.path)) for seam in seams]


def restamp_wanted(seams: Sequence[Seam], mine: Modules) -> list[str]:
    """Paths of the seams whose body is not the one that the table's author has read."""
    return [seam.path for seam in seams if _own(seam, mine).body != seam.body]


def _own(seam: Seam, mine: Modules) -> Symbol:
    symbol = find(mine, seam.path)
    if symbol is None:
        raise KeyError(f"{seam.path} is not in the sources of sglang {mine.version}")
    return symbol


def _compare(seam: Seam, mine: Symbol, other: Symbol | None) -> Comparison:
    if other is None:
        return Comparison(seam, Verdict.GONE)
    changed = changed_parts(mine, other)
    body = (f"changed in {', '.join(changed)}",) if any(changed) else ()
    if other.signature != mine.signature:
        differences = _differences(mine.signature, other.signature)
        return Comparison(seam, Verdict.SIGNATURE, (*differences, *body))
    if other.home != mine.home:  # a hook on the old name would replace an import, no more
        return Comparison(seam, Verdict.MOVED, (f"to {other.home}", *body))
    return Comparison(seam, Verdict.BODY if changed else Verdict.SAME, body)


def _differences(was: str, now: str) -> Iterator[str]:
    """Arguments that only one of two signatures has; both signatures if the order is all."""
    old, new = list(_arguments(was)), list(_arguments(now))
    lost = [f"- {argument}" for argument in old if argument not in new]
    gained = [f"+ {argument}" for argument in new if argument not in old]
    yield from [*lost, *gained] or [f"- {was}", f"+ {now}"]


def _arguments(signature: str) -> Iterator[str]:
    """`(a: dict[int, str], b) -> c` -> `a: dict[int, str]`, `b`, `-> c`."""
    argument = ""
    for piece in signature.replace(") -> ", ", -> ").split(", "):
        argument = f"{argument}, {piece}" if argument else piece
        if argument.count("[") == argument.count("]"):
            yield argument.strip("()")
            argument = ""
    if argument:
        yield argument


def changed_parts(mine: Symbol, other: Symbol) -> list[str]:
    """Members that differ, `+` new and `-` gone; of a function, one part without a name."""
    marks = []
    for name in sorted(mine.parts.keys() | other.parts.keys()):
        if mine.parts.get(name) != other.parts.get(name):
            mark = "+" if name not in mine.parts else "-" if name not in other.parts else ""
            marks.append(mark + name)
    return marks


def try_patches(patches: Sequence[Patch], other: Modules) -> list[Trial]:
    """Whether each patch would apply, line numbers included."""
    return [
        Trial(patch.name, tuple(filter(None, (_complaint(diff, other) for diff in patch.diffs))))
        for patch in patches
    ]


def _complaint(diff: FileDiff, other: Modules) -> str | None:
    content = other.read(diff.path)
    if content is None:
        return f"{diff.path} is gone"
    try:
        diff.apply(content)
    except Mismatch as error:
        return f"{diff.path}: {error}"
    return None
