"""`llm42 doctor --against`: what another SGLang does to the seams and to the text patches."""

from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from llm42_sglang.cli.patching import series
from llm42_sglang.cli.patching.diff import FileDiff, Mismatch
from llm42_sglang.cli.upstream.sources import Sources, in_wheel, installed, wheel_file
from llm42_sglang.cli.upstream.symbols import Finder, Symbol
from llm42_sglang.engine.seams import GPU_SEAMS, SEAMS, Seam


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


def against(named: str) -> tuple[str, bool]:
    """The report on a version or wheel, and whether anything changed. Imports no SGLang.

    Raises UserError if there is no such wheel, or the installed sglang was altered.
    """
    other, mine = in_wheel(wheel_file(named)), installed()
    seams = compare((*SEAMS, *GPU_SEAMS), mine, other)
    patches = {
        patch.name: [told for diff in patch.diffs if (told := complaint(diff, other))]
        for patch in series.load()
    }
    head = f"sglang {other.version} against the installed {mine.version}\n"
    text = "\n".join([head, *_report(seams, patches)])
    return text, any(seam.verdict is not Verdict.SAME for seam in seams) or any(patches.values())


def compare(seams: Sequence[Seam], mine: Sources, other: Sources) -> list[Comparison]:
    """Every seam as `mine` has it against `other`. Raises KeyError if `mine` does not have it."""
    ours, theirs = Finder(mine), Finder(other)
    return [_compare(seam, ours.find(seam.path), theirs.find(seam.path)) for seam in seams]


def _compare(seam: Seam, mine: Symbol | None, other: Symbol | None) -> Comparison:
    if mine is None:
        raise KeyError(f"{seam.path} is not in the sources of the installed sglang")
    if other is None:
        return Comparison(seam, Verdict.GONE)
    changed = _changed_parts(mine, other)
    body = (f"changed in {', '.join(changed)}",) if any(changed) else ()
    if other.signature != mine.signature:
        lost = [f"- {part}" for part in mine.signature if part not in other.signature]
        gained = [f"+ {part}" for part in other.signature if part not in mine.signature]
        told = [*lost, *gained] or [f"now ({', '.join(other.signature)})"]  # another order
        return Comparison(seam, Verdict.SIGNATURE, (*told, *body))
    if other.home != mine.home:  # a hook on the old name would replace an import, no more
        return Comparison(seam, Verdict.MOVED, (f"to {other.home}", *body))
    return Comparison(seam, Verdict.BODY if changed else Verdict.SAME, body)


def _changed_parts(mine: Symbol, other: Symbol) -> list[str]:
    """Members that differ, `+` new and `-` gone; of a function, one part without a name."""
    return [
        ("+" if name not in mine.parts else "-" if name not in other.parts else "") + name
        for name in sorted(mine.parts.keys() | other.parts.keys())
        if mine.parts.get(name) != other.parts.get(name)
    ]


def complaint(diff: FileDiff, other: Sources) -> str | None:
    """Why a patch would not apply to a file, line numbers included; None if it would."""
    content = other.read(diff.path)
    if content is None:
        return f"{diff.path} is gone"
    try:
        diff.apply(content)
    except Mismatch as error:
        return f"{diff.path}: {error}"
    return None


def _report(seams: Sequence[Comparison], patches: dict[str, list[str]]) -> Iterator[str]:
    """Lines: what changed by verdict, then the patches, then the sums."""
    for verdict in Verdict:
        here = [seam for seam in seams if seam.verdict is verdict]
        if verdict is not Verdict.SAME and here:
            yield f"{verdict.value}:"
            for comparison in here:
                yield f"  {comparison.seam.path}  ({comparison.seam.why})"
                yield from (f"      {detail}" for detail in comparison.details)
            yield ""
    yield "patches, zero fuzz:"
    for name, complaints in patches.items():
        yield f"  {name}: {'does not apply' if complaints else 'applies'}"
        yield from (f"      {told}" for told in complaints)
    yield ""
    count = Counter(seam.verdict for seam in seams)
    sums = ", ".join(f"{count[verdict]} {verdict.value}" for verdict in Verdict)
    fit = sum(not complaints for complaints in patches.values())
    yield f"{len(seams)} seams: {sums}; {fit} of {len(patches)} patches apply"
