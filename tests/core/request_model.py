"""A request of the toy engine, which knows what an oracle would answer."""

from dataclasses import dataclass, field

from llm42_sglang.core import track as protocol

from .oracle import VOCAB, Asked, ends, generate, next_token

TAINT = (VOCAB,)  # makes a row over provisional KV differ from the canonical one


@dataclass(eq=False)  # compared and hashed by identity
class Request:
    prompt: tuple[int, ...]
    asked: Asked
    track: protocol.Track
    output: list[int] = field(default_factory=list)  # what the client has seen
    pages: list[int] = field(default_factory=list)
    born: bool = False  # prefill is over
    stepped: set[int] = field(default_factory=set)  # rows that canonical steps wrote
    passes: int = 0
    rollbacks: int = 0
    rolled_back: int = 0

    def __post_init__(self) -> None:
        self.truth = generate(self.prompt, self.asked)

    @property
    def committed(self) -> tuple[int, ...]:
        return self.prompt + tuple(self.output)

    @property
    def known(self) -> tuple[int, ...]:
        return self.committed + self.track.candidates

    @property
    def kv_rows(self) -> int:
        return self.track.kv_len if self.born else self.track.canonical_len

    @property
    def finished(self) -> bool:
        return bool(self.output) and ends(tuple(self.output), self.asked)

    def suspects(self) -> bool:
        """Whether any candidate would end the request."""
        tokens = (*self.output, *self.track.candidates)
        lengths = range(len(self.output) + 1, len(tokens) + 1)
        return any(ends(tokens[:n], self.asked) for n in lengths)

    def draw(self, prefix: tuple[int, ...], good: bool = True) -> int:
        """The token that the row of this prefix gives; a `good` row is canonical."""
        constrained = self.asked.grammar and len(prefix) > len(self.prompt)
        return next_token(prefix if good else prefix + TAINT, prefix[-1] if constrained else None)
