"""`llm42 doctor --against`: what another SGLang does to the seams and to the text patches."""

from collections.abc import Sequence
from difflib import ndiff

from llm42_sglang.cli.patching.diff import Mismatch
from llm42_sglang.cli.patching.wheel import load_patches
from llm42_sglang.cli.upstream import sources
from llm42_sglang.cli.upstream.symbols import Finder, Symbol
from llm42_sglang.engine.names import PINNED_SGLANG
from llm42_sglang.engine.plugin import SEAMS
from llm42_sglang.engine.seam import Seam
from llm42_sglang.engine.seams.table import GPU_SEAMS

UNFIT, SAME = "patch does not apply", "unchanged"
VERDICTS = ("gone", "moved", "signature changed", "body changed", UNFIT, SAME)  # worst first


def against(named: str) -> tuple[str, bool]:
    """The report on a version or wheel, which is not imported, and whether anything changed."""
    file, other = sources.other(named)
    ours, theirs = Finder(sources.installed()), Finder(other)
    found: dict[str, list[str]] = {verdict: [] for verdict in VERDICTS}
    rows: dict[str, list[Seam]] = {}
    for seam in (*SEAMS, *GPU_SEAMS):
        rows.setdefault(seam.row, []).append(seam)
    for row, seams in rows.items():
        verdict, *details = compare_row(row, seams, ours, theirs)
        found[verdict].append("\n      ".join(details))
    for name, diffs in load_patches().items():
        for diff in diffs:
            try:
                diff.apply(other(diff.path) or b"")
            except Mismatch as error:
                found[UNFIT].append(f"  {name}: {diff.path}: {error}")
    head = f"{file} against the installed sglang {PINNED_SGLANG}"
    sums = ", ".join(f"{len(rows)} {verdict}" for verdict, rows in found.items())
    told = [verdict for verdict in VERDICTS if found[verdict] and verdict != SAME]
    lists = ["\n".join([f"{verdict}:", *found[verdict]]) for verdict in told]
    return "\n\n".join([head, *lists, sums]), bool(lists)


def compare_row(row: str, seams: Sequence[Seam], ours: Finder, theirs: Finder) -> list[str]:
    """The worst verdict on a function, or on a class and its members; then the lines of it."""
    if [seam.path for seam in seams] == [row]:
        verdict, *details = compare(ours.find(row), theirs.find(row))
        return [verdict, f"  {row}  ({seams[0].why})", *details]
    worst, told = SAME, [f"  {row}"]
    for seam in seams:
        verdict, *details = compare(ours.find(seam.path), theirs.find(seam.path))
        worst = min(worst, verdict, key=VERDICTS.index)
        if verdict != SAME:
            name = seam.path.rpartition(".")[2]
            told += [f"{name}: {verdict}  ({seam.why})", *details]
    return [worst, *told]


def compare(mine: Symbol, other: Symbol | None) -> list[str]:
    """One of VERDICTS, then details."""
    if other is None:
        return ["gone"]
    changed = [
        f"{'+' * (name not in mine.parts)}{'-' * (name not in other.parts)}{name}"
        for name in sorted({*mine.parts, *other.parts})
        if mine.parts.get(name) != other.parts.get(name)
    ]
    body = [f"changed in {', '.join(changed)}"] if any(changed) else []
    if other.signature != mine.signature:
        lines = ndiff(mine.signature, other.signature)
        return ["signature changed", *(line for line in lines if line[0] in "+-"), *body]
    if other.home != mine.home:  # a hook on the old name would replace an import, no more
        return ["moved", f"to {other.home}", *body]
    return ["body changed" if changed else SAME, *body]
