"""Percentiles, rates over whole loads, and what verification threw away."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from llm42_sglang.cli.bench.outcome import Outcome
from llm42_sglang.errors import UserError


class Percentiles(NamedTuple):
    """Of a sample, in the sample's unit; None where it is empty."""

    count: int
    p50: float | None
    p90: float | None
    p99: float | None


def percentiles(values: Iterable[float]) -> Percentiles:
    """By nearest rank: each is the smallest value that so much of the sample does not exceed, so
    every number reported was measured."""
    ordered = sorted(values)
    if not ordered:
        return Percentiles(0, None, None, None)
    count = len(ordered)
    return Percentiles(count, *(ordered[math.ceil(p * count) - 1] for p in (0.5, 0.9, 0.99)))


def ratio(part: float | None, whole: float | None) -> float | None:
    """`part / whole`, None where either is missing or there is nothing to divide by."""
    return part / whole if part is not None and whole else None


def tokens_per_s(load: Sequence[Outcome]) -> float:
    """Output tokens over the time of the whole load, as SGLang's bench_serving has it.

    Every server is timed over the same work. Up to any earlier moment, one that has prefilled more
    prompts has less to show for it.
    """
    return sum(one.request.new_tokens for one in load) / time_s(load)


def time_s(load: Sequence[Outcome]) -> float:
    """From the first request sent to the last token."""
    return max(one.chunks[-1].at_s for one in load) - min(one.sent_s for one in load)


class Recompute(NamedTuple):
    """Over deterministic requests."""

    requests: int
    tokens_out: int
    rolled_back: int  # tokens
    rollbacks: int

    @property
    def rate(self) -> float | None:
        """Of all tokens made, the share thrown away; None where nothing was made."""
        return ratio(self.rolled_back, self.tokens_out + self.rolled_back)


def recompute(outcomes: Sequence[Outcome]) -> Recompute:
    """Raises UserError if a deterministic answer is not verified: it would measure nothing."""
    served = [outcome for outcome in outcomes if outcome.request.deterministic]
    if not all(outcome.receipt.get("verified") is True for outcome in served):
        raise UserError("the server does not verify deterministic answers: is it `llm42 serve`?")
    return Recompute(
        len(served),
        sum(len(outcome.output_ids) for outcome in served),
        sum(outcome.receipt["tokens_rolled_back"] for outcome in served),
        sum(outcome.receipt["rollbacks"] for outcome in served),
    )
