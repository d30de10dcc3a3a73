"""Percentiles, by nearest rank: every number reported was measured. Rates, over whole loads."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from llm42_sglang.cli.bench.outcome import Outcome


class Percentiles(NamedTuple):
    """Of a sample, in the sample's unit; None where it is empty."""

    count: int
    p50: float | None
    p90: float | None
    p99: float | None


def percentiles(values: Iterable[float]) -> Percentiles:
    """P50, P90 and P99."""
    ordered = sorted(values)
    return Percentiles(len(ordered), *(nearest_rank(ordered, share) for share in (0.5, 0.9, 0.99)))


def nearest_rank(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that `share` of the sample does not exceed. `ordered` is ascending."""
    if not ordered:
        return None
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


def ratio(part: float | None, whole: float | None) -> float | None:
    """`part / whole`, None where either is missing or there is nothing to divide by."""
    return part / whole if part is not None and whole else None


def tokens_per_s(of: Iterable[Outcome], load: Sequence[Outcome]) -> float:
    """Output tokens of some requests over the time of the whole load they were in.

    As SGLang's bench_serving has it: every server is timed over the same work. Up to any earlier
    moment, one that has prefilled more prompts has less to show for it.
    """
    return sum(one.request.new_tokens for one in of) / time_s(load)


def time_s(load: Sequence[Outcome]) -> float:
    """From the first request sent to the last token."""
    return max(one.chunks[-1].at_s for one in load) - min(one.sent_s for one in load)
