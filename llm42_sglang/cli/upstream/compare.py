"""`llm42 doctor --against`: what another SGLang does to the seams and to the text patches."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from llm42_sglang.cli.patching.diff import FileDiff, Mismatch
from llm42_sglang.cli.patching.wheel import load_patches
from llm42_sglang.cli.upstream.sources import Sources, in_wheel, installed, wheel_file
from llm42_sglang.cli.upstream.symbols import Finder, Symbol
from llm42_sglang.engine.seams import GPU_SEAMS, SEAMS, Seam

SAME = "unchanged"
VERDICTS = ("gone", "moved", "signature changed", "body changed", SAME)  # worst first


class Comparison(NamedTuple):
    """One seam in the other SGLang; its verdict is one of VERDICTS."""

    seam: Seam
    verdict: str
    details: tuple[str, ...] = ()


def against(named: str) -> tuple[str, bool]:
    """The report on a version or wheel, and whether anything changed. Imports no SGLang.

    Raises UserError if there is no such wheel, or the installed sglang was altered.
    """
    other, mine = in_wheel(wheel_file(named)), installed()
    seams = compare((*SEAMS, *GPU_SEAMS), mine, other)
    patches = {
        name: [told for diff in diffs if (told := complaint(diff, other))]
        for name, diffs in load_patches().items()
    }
    head = f"sglang {other.version} against the installed {mine.version}\n"
    changed = any(seam.verdict != SAME for seam in seams) or any(patches.values())
    return "\n".join([head, *_report(seams, patches)]), changed


def compare(seams: Sequence[Seam], mine: Sources, other: Sources) -> list[Comparison]:
    """Every seam as `mine` has it against `other`. Raises KeyError if `mine` does not have it."""
    ours, theirs = Finder(mine), Finder(other)
    return [_compare(seam, ours.find(seam.path), theirs.find(seam.path)) for seam in seams]


def _compare(seam: Seam, mine: Symbol | None, other: Symbol | None) -> Comparison:
    if mine is None:
        raise KeyError(f"{seam.path} is not in the sources of the installed sglang")
    if other is None:
        return Comparison(seam, "gone")
    changed = [
        ("+" if name not in mine.parts else "-" if name not in other.parts else "") + name
        for name in sorted(mine.parts.keys() | other.parts.keys())
        if mine.parts.get(name) != other.parts.get(name)
    ]
    body = (f"changed in {', '.join(changed)}",) if any(changed) else ()
    if other.signature != mine.signature:
        lost = [f"- {part}" for part in mine.signature if part not in other.signature]
        gained = [f"+ {part}" for part in other.signature if part not in mine.signature]
        told = [*lost, *gained] or ["another order"]
        return Comparison(seam, "signature changed", (*told, *body))
    if other.home != mine.home:  # a hook on the old name would replace an import, no more
        return Comparison(seam, "moved", (f"to {other.home}", *body))
    return Comparison(seam, "body changed" if changed else SAME, body)


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
    count = Counter(seam.verdict for seam in seams)
    for verdict in VERDICTS[:-1]:
        if count[verdict]:
            yield f"{verdict}:"
            for seam, found, details in seams:
                if found == verdict:
                    yield f"  {seam.path}  ({seam.why})"
                    yield from (f"      {detail}" for detail in details)
            yield ""
    yield "patches, zero fuzz:"
    for name, complaints in patches.items():
        yield f"  {name}: {'does not apply' if complaints else 'applies'}"
        yield from (f"      {told}" for told in complaints)
    yield ""
    sums = ", ".join(f"{count[verdict]} {verdict}" for verdict in VERDICTS)
    fit = sum(not complaints for complaints in patches.values())
    yield f"{len(seams)} seams: {sums}; {fit} of {len(patches)} patches apply"
