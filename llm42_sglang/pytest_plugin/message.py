"""What a failing test says."""

from llm42_sglang.repro.judge import Judged, place
from llm42_sglang.repro.output import first_difference, mismatch

_SHOWN = 72  # characters of a text


def explained(judged: Judged, golden: str) -> str:
    """Some lines: verdict and reason, the two texts, each condition, what to do."""
    case = judged.case
    lines = [f"{judged.verdict.value}: {judged.reason}", f"  prompt: {_cut(case.question)}"]
    hint = ""
    if (difference := judged.difference) is not None:
        hint = "; if the change is meant: pytest --llm42-update"
        before, after = difference.before.text, difference.after.answer.output.text
        source, where = difference.source, place(difference.after.condition)
        width = max(len(where), len(source))
        if (at := first_difference(before, after)) is not None:
            lines.append(f"  {source:<{width}} | {_cut(before, at)}")
            lines.append(f"  {where:<{width}} | {_cut(after, at)}")
    for one in judged.observations:
        told = "the recorded bits" + ("" if one.answer.output.verified else ", not verified")
        if found := mismatch(case.output, one.answer.output):
            told = "differs" + ("" if found.at is None else f" from {found.what} {found.at} on")
        lines.append(f"  {place(one.condition)}: {told}")
    lines.append(f"  golden file: {golden}{hint}")
    return "\n".join(lines)


def _cut(text: str, at: int = 0) -> str:
    """From shortly before a place."""
    start = max(0, at - _SHOWN // 2)
    dots = "…" if start else ""
    more = "…" if start + _SHOWN < len(text) else ""
    return f"{dots}{text[start : start + _SHOWN]!r}{more}"
