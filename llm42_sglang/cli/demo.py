"""The demonstration: do the same prompts get the same tokens alone and in company?"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from llm42_sglang.repro.conditions import CONDITIONS, observe, question
from llm42_sglang.repro.endpoint import connect
from llm42_sglang.repro.output import first_difference
from llm42_sglang.repro.prompts import PROMPTS
from llm42_sglang.repro.suite import Sampling
from llm42_sglang.repro.wire import Answer

NEW_TOKENS = 96
IN_FLIGHT = 2 * len(PROMPTS)  # half of them are company
CALLS = {  # by name of the condition
    "alone": f"{len(PROMPTS)} prompts, one after the other",
    "load": f"the same prompts, {IN_FLIGHT} requests in flight",
}
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Comparison:
    """One prompt's answer alone and under load, of a server that tells token ids."""

    prompt: str
    alone: Answer
    loaded: Answer

    @property
    def diverged_at(self) -> int | None:
        """Index of the first token that differs, counted from 0; None if no token does."""
        alone, loaded = self.alone.output.ids, self.loaded.output.ids
        assert alone is not None and loaded is not None, "no token ids"
        return first_difference(alone, loaded)

    @property
    def verified(self) -> bool:
        """Whether the server vouches for both answers."""
        return self.alone.output.verified and self.loaded.output.verified

    def total(self, counter: str) -> int:
        """The sum of a receipt counter, such as `rollbacks`, over both answers."""
        return self.alone.counter(counter) + self.loaded.counter(counter)


def compare(
    url: str, deterministic: bool, progress: Progress, new_tokens: int = NEW_TOKENS
) -> list[Comparison]:
    """PROMPTS one after the other, then all at once beside ordinary requests, paired.

    Raises UserError if the server refuses a request or stops answering.
    """
    sampling = Sampling(max_tokens=new_tokens, ignore_eos=True)
    cases = [question(prompt, prompt, True, sampling) for prompt in PROMPTS]
    kind = "deterministic" if deterministic else "ordinary"
    with connect(url) as endpoint:
        alone, loaded = (
            observe(
                *(endpoint, cases, CONDITIONS[name], IN_FLIGHT),
                _counting(f"{kind} requests: {call}", progress),
                deterministic,
            )
            for name, call in CALLS.items()
        )
    return [
        Comparison(prompt, before.answer, after.answer)
        for prompt, before, after in zip(PROMPTS, alone, loaded, strict=True)
    ]


def _counting(title: str, progress: Progress) -> Callable[[], None]:
    """Tell what begins, and then four times how far it is."""
    progress(title)
    answered, began_s = count(1), time.monotonic()

    def advance() -> None:
        number = next(answered)
        if number % (len(PROMPTS) // 4) == 0:
            seconds = time.monotonic() - began_s
            progress(f"  {number} of {len(PROMPTS)} answered after {seconds:.0f} s")

    return advance
