"""`llm42 doctor --against`: the report, worst first."""

from collections import Counter
from collections.abc import Iterator, Sequence

from llm42_sglang.cli.patching import series
from llm42_sglang.cli.upstream.compare import Comparison, Trial, Verdict, compare, try_patches
from llm42_sglang.cli.upstream.fetch import wheel_file
from llm42_sglang.cli.upstream.modules import in_wheel, installed
from llm42_sglang.engine.seams import GPU_SEAMS, SEAMS


def against(named: str) -> tuple[str, bool]:
    """The report on a version or wheel, and whether anything changed. Imports no SGLang.

    Raises UserError if there is no such wheel, or the installed sglang was altered.
    """
    other, mine = in_wheel(wheel_file(named)), installed()
    seams = compare((*SEAMS, *GPU_SEAMS), mine, other)
    patches = try_patches(series.load(), other)
    lines = [f"sglang {other.version} against the installed {mine.version}", ""]
    lines += [*report(seams, patches)]
    changed = any(seam.verdict is not Verdict.SAME for seam in seams)
    return "\n".join(lines), changed or any(patch.complaints for patch in patches)


def report(seams: Sequence[Comparison], patches: Sequence[Trial]) -> Iterator[str]:
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
    for patch in patches:
        yield f"  {patch.name}: {'does not apply' if patch.complaints else 'applies'}"
        yield from (f"      {complaint}" for complaint in patch.complaints)
    yield ""
    count = Counter(seam.verdict for seam in seams)
    fit = sum(not patch.complaints for patch in patches)
    sums = ", ".join(f"{count[verdict]} {verdict.value}" for verdict in Verdict)
    yield f"{len(seams)} seams: {sums}; {fit} of {len(patches)} patches apply"
