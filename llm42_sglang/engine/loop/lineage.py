"""Under which weights the tokens of a request were drawn."""

from llm42_sglang.core.receipts import Segment
from llm42_sglang.engine.names import NAMESPACE


class Lineage:
    """The fingerprint in force, and the segments of output before the last weight update."""

    def __init__(self, fingerprint: str, extra_key: str | None):
        """extra_key: the client's, for the radix cache; None if it has given none."""
        self.fingerprint = fingerprint
        self.past: tuple[Segment, ...] = ()
        self._extra_key = extra_key or ""

    @property
    def cache_key(self) -> str:
        """The key in the radix cache. Pages of other weights or shapes can never match it."""
        return f"{NAMESPACE}{self.fingerprint}:{self._extra_key}"

    @property
    def past_tokens(self) -> int:
        """Output tokens that were drawn under earlier weights."""
        return sum(segment.tokens for segment in self.past)

    def follow(self, fingerprint: str, outputs: int) -> None:
        """Other weights are in force. outputs: tokens of output so far."""
        self.past = self.segments(outputs)
        self.fingerprint = fingerprint

    def segments(self, outputs: int) -> tuple[Segment, ...]:
        """All segments of an output of so many tokens, in order. Weights that come back before a
        token was drawn have been there all the time."""
        tokens, past = outputs - self.past_tokens, self.past
        if past and past[-1].fingerprint == self.fingerprint:
            tokens, past = tokens + past[-1].tokens, past[:-1]
        return (*past, Segment(self.fingerprint, tokens)) if tokens else past
