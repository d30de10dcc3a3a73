"""What a canonical pass decides about one request's candidates: `judge` compares the two."""

from collections.abc import Sequence
from typing import NamedTuple


class Verdict(NamedTuple):
    """The outcome of one canonical pass for one request."""

    run: tuple[int, ...]  # tokens to commit, in order; never empty
    kept: tuple[int, ...]  # candidates past the verified rows, still unverified
    dropped: int  # candidates rolled back


def judge(candidates: Sequence[int], verified: Sequence[int]) -> Verdict:
    """Compare a request's candidates with the tokens that a canonical pass drew.

    With n committed tokens, `candidates[i]` and `verified[i]` are both tokens for position n+i.
    `verified[i]` was drawn from the canonical row of position n+i-1.

    Row i is canonical only if all candidates before it were right. So tokens are committed up to
    the first disagreement. There the pass's own token is committed, and all later candidates are
    dropped, because they were decoded from a wrong token.

    The last verified token may have no candidate: that row gives one token more, for free.
    `verified` must not be empty; an empty one is an AssertionError.
    """
    assert verified, "a canonical pass always covers the row of the last committed token"
    for i, token in enumerate(verified):
        if i == len(candidates) or candidates[i] != token:
            return Verdict(run=tuple(verified[: i + 1]), kept=(), dropped=len(candidates) - i)
    return Verdict(run=tuple(verified), kept=tuple(candidates[len(verified) :]), dropped=0)
