"""What one verified page decides about the candidates."""

from collections.abc import Sequence
from typing import NamedTuple


class Verdict(NamedTuple):
    """The outcome of one canonical pass for one request."""

    run: tuple[int, ...]  # tokens to commit, in order; never empty
    kept: tuple[int, ...]  # candidates past the verified rows, still unverified
    dropped: int  # candidates rolled back


def judge(candidates: Sequence[int], verified: Sequence[int]) -> Verdict:
    """Compare candidates with the verifier's tokens for the same positions.

    `candidates[i]` and `verified[i]` both speak of position n+i, n being the committed length;
    `verified[i]` was sampled from the canonical row of position n+i-1. Row i is canonical only
    while every token before it agreed, so the first disagreement ends the run: the verifier's own
    token is committed there, and every later candidate (computed from a wrong token) is dropped.
    A row beyond the last candidate gives one token for free: the first of the next page.
    """
    assert verified, "a canonical pass always covers the row of the last committed token"
    for i, token in enumerate(verified):
        if i == len(candidates) or candidates[i] != token:
            return Verdict(run=tuple(verified[: i + 1]), kept=(), dropped=len(candidates) - i)
    return Verdict(run=tuple(verified), kept=tuple(candidates[len(verified) :]), dropped=0)
