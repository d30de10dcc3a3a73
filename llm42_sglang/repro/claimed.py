"""The condition `claimed`: the recorded tokens are checked, and no answer is generated."""

from llm42_sglang.core.seeds import seed_of_sample
from llm42_sglang.errors import UserError
from llm42_sglang.repro.endpoint import Endpoint
from llm42_sglang.repro.suite import Case
from llm42_sglang.repro.wire import Answer, joined


def ask_claiming(endpoint: Endpoint, case: Case, deterministic: bool) -> Answer:
    """The answer to a recorded case whose tokens are claimed, every choice by itself.

    Raises UserError if no token ids are recorded, or the endpoint refuses the request.
    """
    output = getattr(case, "output", None)
    choices = output.choices if output is not None else []
    if len(choices) != case.samples or not all(choice.ids for choice in choices):
        raise UserError(
            "no token ids are recorded of every choice that could be claimed; leave `claimed` out"
        )
    return joined(
        [
            endpoint.ask(_sample(case, number), deterministic, claim=choice.ids)
            for number, choice in enumerate(choices)
        ]
    )


def _sample(case: Case, number: int) -> Case:
    """Sample `number` of n as a case of its own. The server draws it with seed + number."""
    if case.samples == 1:
        return case
    seed = seed_of_sample(case.sampling.seed, number)
    sampling = case.sampling.model_copy(update={"n": None, "seed": seed})
    return case.model_copy(update={"sampling": sampling})
