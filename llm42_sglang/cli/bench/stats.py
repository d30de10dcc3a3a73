"""Percentiles, by nearest rank: every number reported was measured."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple


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
