"""Recording what a check has seen."""

from llm42_sglang.errors import UserError
from llm42_sglang.repro.golden import Golden
from llm42_sglang.repro.judge import Checked


def updated(golden: Golden, checked: Checked, model: str) -> Golden:
    """The golden file with the answers seen now, those that were checked.

    Raises UserError where answers differ between conditions or, on a server that gives receipts,
    are not verified: noise is not to be recorded; and where only some cases were checked though
    the fingerprint has changed: a file has one.
    """
    new = {}
    for judged in checked.cases:
        name = judged.case.id
        outputs = [one.answer.output for one in judged.observations]
        if not judged.consistent:
            raise UserError(
                f"case {name} differs from condition to condition: {judged.reason}; "
                "the golden file is as it was"
            )
        if any(output.receipt and not output.verified for output in outputs):
            raise UserError(f"case {name} is not verified; the golden file is as it was")
        # Of the condition that tells most: streams may lack token ids.
        fullest = max(outputs, key=lambda one: (one.ids is not None, one.logprobs is not None))
        new[name] = judged.case.model_copy(update={"output": fullest})
    if len(new) < len(golden.cases) and checked.recorded != checked.observed:
        raise UserError("the fingerprint has changed: update all cases, without --only and --tag")
    cases = [new.get(case.id, case) for case in golden.cases]
    return Golden(model=model, fingerprint=checked.observed, cases=cases)
