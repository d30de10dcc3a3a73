"""What a failing test says."""

from llm42_sglang.repro.judge import Judged, place
from llm42_sglang.repro.output import Output, first_difference, mismatch

_SHOWN = 72  # characters of a text


def explained(judged: Judged, golden: str) -> str:
    """Some lines: verdict and reason, the two texts, each condition, what to do."""
    case = judged.case
    lines = [f"{judged.verdict.value}: {judged.reason}", f"  prompt: {_cut(case.question, 0)}"]
    if judged.against is not None and judged.differing is not None:
        lines += _texts(judged.against, judged.differing, place(judged.condition or ""))
    lines += [
        f"  {place(one.condition)}: {_told(case.output, one.answer.output)}"
        for one in judged.observations
    ]
    hint = "; if the change is meant: pytest --llm42-update" if judged.mismatch else ""
    lines.append(f"  golden file: {golden}{hint}")
    return "\n".join(lines)


def _texts(before: Output, after: Output, where: str) -> list[str]:
    """Both from shortly before the place where they part."""
    at = first_difference(before.text, after.text)
    if at is None:
        return []
    width = max(len(where), len("recorded"))
    return [
        f"  {name:<{width}} | {_cut(output.text, at)}"
        for name, output in (("recorded", before), (where, after))
    ]


def _cut(text: str, at: int) -> str:
    start = max(0, at - _SHOWN // 2)
    dots = "…" if start else ""
    more = "…" if start + _SHOWN < len(text) else ""
    return f"{dots}{text[start : start + _SHOWN]!r}{more}"


def _told(recorded: Output, output: Output) -> str:
    if difference := mismatch(recorded, output):
        place = "" if difference.at is None else f" from {difference.what} {difference.at} on"
        return f"differs{place}"
    return "the recorded bits" + ("" if output.verified else ", not verified")
