"""Drafts: a request's own text says what may follow, and measured costs say whether to verify it.

Where the last tokens of a text stood in it before, what followed there is a guess at what follows
now. A request that copies or edits its prompt guesses right for many tokens in a row. The guesses
become candidates, and one canonical pass verifies them all. A decode step would give one token.

Nothing here can change a token of an answer. A pass draws from every row, whoever proposed the
candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Request = TypeVar("Request")

SIZES = (4, 3, 2)  # tokens that must have stood there before; the longest match counts
SMOOTHING = 1 / 8  # the weight of the latest guess in `Drafter.rate`
MARGIN = 1.25  # a pass must promise so many times the tokens of the decode steps in its time


class OwnText:
    """A text that grows at its end, and where its last tokens stood before.

    A push or a pop takes constant time. So does a look-up, however long the text is.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []
        # For each size: where its n-grams end that are not the last one, the latest only; and of
        # each position what that was before.
        self._ends: dict[tuple[int, ...], int] = {}
        self._shadowed: list[tuple[int, ...]] = []

    def push(self, token: int) -> None:
        """Append a token."""
        end = len(self.tokens)
        grams = self._last_grams()
        self._shadowed.append(tuple(self._ends.get(gram, 0) for gram in grams))
        self._ends.update(dict.fromkeys(grams, end))
        self.tokens.append(token)

    def pop(self) -> None:
        """Take the last token away, as if it had never been."""
        self.tokens.pop()
        for gram, end in zip(self._last_grams(), self._shadowed.pop(), strict=True):
            if end:
                self._ends[gram] = end
            else:
                del self._ends[gram]

    def follower(self) -> int | None:
        """Where the last tokens stood before, the position after them; None if nowhere.

        The longest of SIZES counts, and the latest place of it.
        """
        ends = (self._ends.get(gram) for gram in self._last_grams())
        return next((end for end in ends if end is not None), None)

    def _last_grams(self) -> list[tuple[int, ...]]:
        """The n-grams that end the text, the longest first."""
        have = len(self.tokens)
        return [tuple(self.tokens[have - size :]) for size in SIZES if size <= have]


class Drafter:
    """Guesses the tokens that follow in one request, and keeps the rate of right guesses.

    It guesses from one place in the text, `source`, as long as it is right there.
    """

    def __init__(self) -> None:
        self.text = OwnText()
        self.source: int | None = None  # the position whose token is the guess for the next one
        self.rate = 0.0  # of right guesses, the latest ones above all; 0 to 1
        self._fixed = 0  # tokens that will never change

    def follow(self, committed: Sequence[int], candidates: Sequence[int]) -> None:
        """Learn what the request knows now. committed: its tokens from position `fixed_len` on."""
        tail = [*committed, *candidates]
        tokens, start = self.text.tokens, self._fixed
        same = 0
        for known, token in zip(tokens[start:], tail, strict=False):
            if known != token:
                break
            same += 1
        while len(tokens) > start + same:
            self.text.pop()
            self.source = None
        for token in tail[same:]:
            self._learn(token)
        self._fixed += len(committed)

    @property
    def fixed_len(self) -> int:
        """How many committed tokens it has learnt."""
        return self._fixed

    def draft(self, most: int) -> list[int]:
        """The guess for the tokens that follow, up to so many. A text that repeats itself goes on
        repeating itself."""
        if self.source is None:
            return []
        period = self.text.tokens[self.source : self.source + most]
        return [period[i % len(period)] for i in range(most)]

    def expected(self, most: int) -> float:
        """How many tokens of a draft of this length are right, in the mean."""
        if self.source is None or not self.rate:
            return 0.0
        if self.rate == 1:
            return most
        return self.rate * (1 - self.rate**most) / (1 - self.rate)

    def _learn(self, token: int) -> None:
        source = self.source
        right = source is not None and self.text.tokens[source] == token
        if source is not None:
            self.rate += SMOOTHING * (right - self.rate)
        self.text.push(token)
        after = None if source is None else source + 1
        if right:
            self.source = after
        else:
            found = self.text.follower()
            self.source = after if found is None else found  # one token may have been replaced


@dataclass(frozen=True, slots=True)
class Costs:
    """What the server's passes and decode steps take, in seconds."""

    passes: Mapping[int, float]  # by width
    steps: Mapping[int, float]  # by number of requests
    context: int = 256  # tokens of the texts that were measured

    def pass_s(self, pages: int) -> float:
        """The seconds of the narrowest pass that holds so many pages."""
        return self.passes[min(width for width in self.passes if width >= pages)]

    def step_s(self, requests: int) -> float:
        """The seconds of a decode step, between two measured sizes in a straight line."""
        low = max((n for n in self.steps if n <= requests), default=min(self.steps))
        high = min((n for n in self.steps if n >= requests), default=low)
        share = (requests - low) / (high - low) if high > low else 0.0
        return self.steps[low] + share * (self.steps[high] - self.steps[low])


@dataclass(frozen=True, slots=True)
class Offer(Generic[Request]):
    """A draft that a request could have verified."""

    request: Request
    expected: float  # tokens of it that are right, in the mean


def worth_a_pass(
    offers: Sequence[Offer[Request]], costs: Costs, decoding: int, ordinary: bool
) -> list[Request]:
    """Return the requests whose drafts run in a pass now; none if decode steps are as good.

    A pass is worth it if it promises MARGIN times the tokens that decode steps would give in its
    time. Each draft gives its right tokens and one more. The pass takes the number of drafts that
    gains most.

    decoding: requests in the next decode step. ordinary: whether an ordinary request decodes or
    waits; then the pass may take no longer than that step.
    """
    step_s = costs.step_s(decoding)
    ranked = sorted(offers, key=lambda offer: -offer.expected)  # stable: equals keep their order
    best, taken, tokens = 0.0, 0, 0.0
    for count, offer in enumerate(ranked[: max(costs.passes)], 1):
        tokens += offer.expected + 1
        pass_s = costs.pass_s(count)
        gain = tokens - MARGIN * pass_s * decoding / step_s
        if gain > best and not (ordinary and pass_s > step_s):
            best, taken = gain, count
    return [offer.request for offer in ranked[:taken]]
