"""How far is an endpoint from deterministic? It gets the same prompts, alone and in load."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from llm42_sglang.repro.conditions import CONDITIONS, Observation, observe, question
from llm42_sglang.repro.endpoint import Endpoint
from llm42_sglang.repro.output import UNITS, common_unit, first_difference
from llm42_sglang.repro.prompts import PROMPTS
from llm42_sglang.repro.suite import Case, Sampling
from llm42_sglang.repro.wire import Answer


@dataclass(frozen=True, slots=True)
class PromptAnswers:
    """All answers to one prompt, those given alone and those given in load."""

    case: Case
    alone: tuple[Answer, ...]
    loaded: tuple[Answer, ...]

    @property
    def answers(self) -> tuple[Answer, ...]:
        """All answers, those given alone first."""
        return self.alone + self.loaded

    def unique(self, answers: Sequence[Answer]) -> int:
        """The number of different outputs among these answers, logprobs not counted."""
        return len({tuple(pieces) for pieces in self.pieces(answers)})

    @property
    def unit(self) -> str:
        """What is compared: the finest of `output.UNITS` that all answers have."""
        return common_unit([answer.output for answer in self.answers])

    def pieces(self, answers: Sequence[Answer]) -> list[Sequence[Any]]:
        """The token ids, tokens or characters of each answer."""
        return [getattr(answer.output, self.unit) for answer in answers]

    @property
    def diverged_at(self) -> list[int]:
        """For each answer that differs from the first one, the index at which it does."""
        first, *others = self.pieces(self.answers)
        places = (first_difference(first, other) for other in others)
        return [at for at in places if at is not None]

    @property
    def logprob_spreads(self) -> list[float]:
        """Largest minus smallest logprob, in nats, of each token before the answers differ."""
        scored = [answer.logprobs for answer in self.answers]
        if any(values is None for values in scored) or self.unit == "text":
            return []
        columns = zip(*self.pieces(self.answers), strict=False)
        equal = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, columns))
        rows = list(zip(*(values[:equal] for values in scored), strict=False))
        return [max(row) - min(row) for row in rows]


COLUMNS = ("prompt", "unique alone", "unique in load", "first divergence", "logprob spread, nats")


def row_of(prompt: PromptAnswers) -> tuple[str, str, str, str, float | None]:
    """The cells of one prompt, in the order of COLUMNS."""
    places = prompt.diverged_at
    return (
        prompt.case.id,
        f"{prompt.unique(prompt.alone)} of {len(prompt.alone)}",
        f"{prompt.unique(prompt.loaded)} of {len(prompt.loaded)}",
        f"{UNITS[prompt.unit]} {min(places)}" if places else "none",
        max(prompt.logprob_spreads, default=None),
    )


def prompts(count: int, tokens: int, in_chat: bool) -> list[Case]:
    """Greedy cases of the first `count` built-in prompts, of `tokens` tokens each."""
    sampling = Sampling(max_tokens=tokens)
    numbered = enumerate(PROMPTS[:count], start=1)
    return [question(f"prompt-{i}", prompt, in_chat, sampling) for i, prompt in numbered]


def probe(
    endpoint: Endpoint,
    cases: Sequence[Case],
    repeats: int,
    in_flight: int,
    deterministic: bool,
    progress: Callable[[str], None],
) -> list[PromptAnswers]:
    """Ask each prompt `repeats` times alone and as often in load.

    `progress` is called with a line before each round. Raises UserError.
    """
    rounds: dict[str, list[list[Observation]]] = {"alone": [], "load": []}
    for name, observations in rounds.items():
        for number in range(repeats):
            progress(f"{name}, {number + 1} of {repeats}")
            observations.append(
                observe(endpoint, cases, CONDITIONS[name], in_flight, deterministic=deterministic)
            )
    # A round's observations are in the cases' order.
    return [
        PromptAnswers(case, *(tuple(o[i].answer for o in of_name) for of_name in rounds.values()))
        for i, case in enumerate(cases)
    ]


def summary(prompts: Sequence[PromptAnswers]) -> dict[str, Any]:
    """The JSON of a probe. Indices are counted from 0, logprobs are in nats."""
    spreads = [spread for prompt in prompts for spread in prompt.logprob_spreads]
    return {
        "prompts": len(prompts),
        "answers": sum(len(p.answers) for p in prompts),
        "prompts_that_diverged": sum(p.unique(p.answers) > 1 for p in prompts),
        "prompts_that_diverged_alone": sum(p.unique(p.alone) > 1 for p in prompts),
        "unique_outputs": {p.case.id: p.unique(p.answers) for p in prompts},
        "first_divergence": {p.case.id: p.diverged_at for p in prompts},
        "compared": sorted({p.unit for p in prompts}),
        "logprob_spread_max": max(spreads, default=None),
        "logprob_spread_median": statistics.median(spreads) if spreads else None,
    }
