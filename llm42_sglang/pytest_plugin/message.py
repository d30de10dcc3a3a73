"""The message of a test that fails."""

from llm42_sglang.repro.judge import CaseResult, place
from llm42_sglang.repro.output import first_difference, mismatch

_EXTRACT = 72  # characters


def explanation(result: CaseResult, golden: str) -> str:
    """The verdict with its reason, the two texts, a line for each condition, and what to do."""
    case = result.case
    lines = [f"{result.verdict.value}: {result.reason}", f"  prompt: {_cut(case.question)}"]
    hint = ""
    if (difference := result.difference) is not None:
        hint = "; if the change is meant: pytest --llm42-update"
        before, after = (side.text for side in difference.sides)
        source, where = difference.source, place(difference.after.condition)
        width = max(len(where), len(source))
        if (at := first_difference(before, after)) is not None:
            lines.append(f"  {source:<{width}} | {_cut(before, at)}")
            lines.append(f"  {where:<{width}} | {_cut(after, at)}")
    for observation in result.observations:
        output = observation.answer.output
        state = "the recorded bits" + ("" if output.verified else ", not verified")
        if first := mismatch(case.output, output):
            state = "differs" + ("" if first.choice is None else f" in choice {first.choice}")
            state += "" if first.at is None else f" from {first.what} {first.at} on"
        lines.append(f"  {place(observation.condition)}: {state}")
    lines.append(f"  golden file: {golden}{hint}")
    return "\n".join(lines)


def _cut(text: str, at: int = 0) -> str:
    """An extract of the text, from shortly before an index."""
    start = max(0, at - _EXTRACT // 2)
    dots = "…" if start else ""
    more = "…" if start + _EXTRACT < len(text) else ""
    return f"{dots}{text[start : start + _EXTRACT]!r}{more}"
