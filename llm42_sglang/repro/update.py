"""Recording what a check has seen."""

from llm42_sglang.errors import UserError
from llm42_sglang.repro.golden import Golden, Recorded
from llm42_sglang.repro.judge import Checked, Judged


def updated(golden: Golden, checked: Checked, model: str) -> Golden:
    """The golden file with the answers seen now, those that were checked.

    Raises UserError where answers differ between conditions or, on a server that gives receipts,
    are not verified: noise is not to be recorded; and where only some cases were checked though
    the fingerprint has changed: a file has one.
    """
    for judged in checked.cases:
        _require_reproducible(judged)
    if len(checked.cases) < len(golden.cases) and checked.recorded != checked.observed:
        raise UserError("the fingerprint has changed: update all cases, without --only and --tag")
    new = {judged.case.id: _with_new_output(judged) for judged in checked.cases}
    return Golden(
        model=model,
        fingerprint=checked.observed,
        cases=[new.get(case.id, case) for case in golden.cases],
    )


def _require_reproducible(judged: Judged) -> None:
    outputs = [one.answer.output for one in judged.observations]
    if not judged.consistent:
        raise UserError(
            f"case {judged.case.id} differs from condition to condition: {judged.reason}; "
            "the golden file is as it was"
        )
    if any(output.receipt and not output.verified for output in outputs):
        raise UserError(f"case {judged.case.id} is not verified; the golden file is as it was")


def _with_new_output(judged: Judged) -> Recorded:
    """Of the condition that tells most: streams may lack token ids."""
    outputs = [one.answer.output for one in judged.observations]
    fullest = max(outputs, key=lambda output: (output.ids is not None, output.logprobs is not None))
    return judged.case.model_copy(update={"output": fullest})
