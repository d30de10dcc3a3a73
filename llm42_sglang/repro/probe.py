"""How far an endpoint is from deterministic: the same prompts over and over, alone and in load."""

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
class Probed:
    """One prompt's answers."""

    case: Case
    alone: tuple[Answer, ...]
    loaded: tuple[Answer, ...]

    @property
    def answers(self) -> tuple[Answer, ...]:
        """All of the prompt."""
        return self.alone + self.loaded

    def unique(self, answers: Sequence[Answer]) -> int:
        """How many different outputs, logprobs aside."""
        return len({tuple(pieces) for pieces in self.pieces(answers)})

    @property
    def unit(self) -> str:
        """What is compared: the finest that all answers tell."""
        return common_unit([answer.output for answer in self.answers])

    def pieces(self, answers: Sequence[Answer]) -> list[Sequence[Any]]:
        """The ids, tokens or characters of each."""
        return [getattr(answer.output, self.unit) for answer in answers]

    @property
    def diverged_at(self) -> list[int]:
        """Of each answer that leaves the first one: where."""
        first, *others = self.pieces(self.answers)
        places = (first_difference(first, other) for other in others)
        return [at for at in places if at is not None]

    @property
    def logprob_spreads(self) -> list[float]:
        """Token by token, as long as all answers agree: largest minus smallest logprob. In nats."""
        scored = [answer.logprobs for answer in self.answers]
        if any(values is None for values in scored) or self.unit == "text":
            return []
        columns = zip(*self.pieces(self.answers), strict=False)
        agreed = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, columns))
        rows = list(zip(*(values[:agreed] for values in scored), strict=False))
        return [max(row) - min(row) for row in rows]


COLUMNS = ("prompt", "unique alone", "unique in load", "first divergence", "logprob spread, nats")


def row_of(probed: Probed) -> tuple[str, str, str, str, float | None]:
    """One prompt's cells, below COLUMNS."""
    places = probed.diverged_at
    return (
        probed.case.id,
        f"{probed.unique(probed.alone)} of {len(probed.alone)}",
        f"{probed.unique(probed.loaded)} of {len(probed.loaded)}",
        f"{UNITS[probed.unit]} {min(places)}" if places else "none",
        max(probed.logprob_spreads, default=None),
    )


def prompts(count: int, tokens: int, in_chat: bool) -> list[Case]:
    """The first of the built-in prompts, greedy."""
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
) -> list[Probed]:
    """Each prompt `repeats` times alone and as often in load. Raises UserError."""
    rounds: dict[str, list[list[Observation]]] = {"alone": [], "load": []}
    for name, seen in rounds.items():
        for number in range(repeats):
            progress(f"{name}, {number + 1} of {repeats}")
            seen.append(
                observe(endpoint, cases, CONDITIONS[name], in_flight, deterministic=deterministic)
            )
    # A round's observations are in the cases' order.
    return [
        Probed(case, *(tuple(one[i].answer for one in seen) for seen in rounds.values()))
        for i, case in enumerate(cases)
    ]


def summary(probed: Sequence[Probed]) -> dict[str, Any]:
    """The JSON. Indices of tokens are counted from 0; logprobs in nats."""
    spreads = [spread for one in probed for spread in one.logprob_spreads]
    return {
        "prompts": len(probed),
        "answers": sum(len(one.answers) for one in probed),
        "prompts_that_diverged": sum(one.unique(one.answers) > 1 for one in probed),
        "prompts_that_diverged_alone": sum(one.unique(one.alone) > 1 for one in probed),
        "unique_outputs": {one.case.id: one.unique(one.answers) for one in probed},
        "first_divergence": {one.case.id: one.diverged_at for one in probed},
        "compared": sorted({one.unit for one in probed}),
        "logprob_spread_max": max(spreads, default=None),
        "logprob_spread_median": statistics.median(spreads) if spreads else None,
    }
