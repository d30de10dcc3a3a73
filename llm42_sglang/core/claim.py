"""A claimed output: somebody says that these tokens are the answer to a request.

The claimed tokens are candidates that a client proposes. Canonical passes run over prompt and
claim as over one prompt, and each row draws the token that follows it. The claim is right as far
as the drawn tokens are the claimed ones. Nothing is decoded, and nothing is rolled back: what was
drawn up to the first disagreement is the beginning of the true answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import NamedTuple

from llm42_sglang.core.verdict import judge


@dataclass(frozen=True, slots=True)
class Claim:
    """How far a claim is checked."""

    tokens: tuple[int, ...]  # what is claimed
    agreed: int = 0  # as many tokens were drawn as claimed, from the first on
    drawn: int | None = None  # the token that follows the agreed ones, once a row has drawn it

    @property
    def decided(self) -> bool:
        """Whether every claimed token was drawn, and one more; or another one than claimed."""
        return self.drawn is not None

    @property
    def left(self) -> tuple[int, ...]:
        """Claimed tokens that are still to be drawn."""
        return self.tokens[self.agreed :]

    @property
    def answer(self) -> tuple[int, ...]:
        """The tokens that were drawn. They may go past the end of the answer."""
        own = () if self.drawn is None else (self.drawn,)
        return self.tokens[: self.agreed] + own

    def read(self, drawn: Sequence[int]) -> "Claim":
        """Compare `left` with tokens that the next rows drew, in order; there is at least one.

        The tokens may end at the first disagreement, for the rows after it follow a wrong token.
        """
        assert not self.decided, "rows after a disagreement say nothing"
        run = judge(self.left, drawn).run
        last = len(run) - 1
        own = last == len(self.left) or self.left[last] != run[last]
        agreed = self.agreed + len(run) - own
        return replace(self, agreed=agreed, drawn=run[last] if own else None)


class Refutation(NamedTuple):
    """Where a claim is wrong."""

    token: int  # its index in the output, from 0
    claimed: int | None  # None: the claim ends here, and the answer goes on
    drawn: int | None  # None: the answer ends here, and the claim goes on


def refutation(claimed: Sequence[int], answer: Sequence[int]) -> Refutation | None:
    """The first difference of a claim and the answer, None if they are equal."""
    for at, (one, other) in enumerate(zip_longest(claimed, answer)):
        if one != other:
            return Refutation(at, one, other)
    return None
