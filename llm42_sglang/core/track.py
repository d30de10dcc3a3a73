"""One request's protocol state, and the pure step that moves it: (state, event) -> (state, action).

    positions   0 ............ n-1 | n ........ N-1
                committed tokens   | candidates
    KV rows     [0, canonical_len) | provisional, rewritten in place by the next pass

While a request decodes, `canonical_len == committed_len - 1`: the last committed token was sampled
from a canonical row, but its own row is not canonical yet. The next step writes it. A canonical
step writes it for good and commits the token that it draws. Any other step writes a provisional row
and proposes a candidate, and from there on only a pass can commit: it recomputes the page from its
first row on, rows that canonical steps wrote included, and gives them the bits they have.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from llm42_sglang.core.pages import Span, page_index, page_span
from llm42_sglang.core.verdict import judge


@dataclass(frozen=True, slots=True)
class Track:
    """State of one deterministic request. Lengths are in tokens from position 0."""

    page_size: int  # T
    committed_len: int  # n: prompt and committed output
    canonical_len: int = 0  # rows [0, canonical_len) are canonical
    candidates: tuple[int, ...] = ()  # tokens of positions [n, N)
    decoding: bool = False  # born: the prompt's last row has given a token
    finish_suspected: bool = False  # a candidate may end the request
    canonical_steps: int = 0  # tokens committed as they were drawn, without a pass
    verify_passes: int = 0
    rollbacks: int = 0
    tokens_rolled_back: int = 0

    @property
    def known_len(self) -> int:
        """N: committed tokens and candidates."""
        return self.committed_len + len(self.candidates)

    @property
    def kv_len(self) -> int:
        """KV rows the fast path builds on: every known token's but the last one's."""
        return self.known_len - 1

    @property
    def page(self) -> int:
        """The page the next pass covers: the one of the last committed token's row."""
        return page_index(self.committed_len - 1, self.page_size)

    @property
    def due_span(self) -> Span:
        """Positions with known tokens in that page: the real rows of the next pass."""
        start, end = page_span(self.page, self.page_size)
        return Span(start, min(end, self.known_len))

    @property
    def room(self) -> int:
        """Candidates that still fit in that page; negative once the fast path ran ahead of it."""
        return page_span(self.page, self.page_size).end - self.known_len

    @property
    def settled(self) -> bool:
        """Decodes, and has no candidates: a canonical step commits what it draws."""
        return self.decoding and not self.candidates

    @property
    def due(self) -> bool:
        """Verify now: there are candidates, and the page is full or one may end the request."""
        return bool(self.candidates) and (self.room <= 0 or self.finish_suspected)

    @property
    def ahead(self) -> int:
        """Candidates past the end of that page: what the fast path ran ahead."""
        return max(0, -self.room)


class Prefilled(NamedTuple):
    """Canonical passes wrote rows [0, upto)."""

    upto: int


class Born(NamedTuple):
    """The last prefilled row gave a token: committed at birth."""

    token: int


class Stepped(NamedTuple):
    """A canonical step over settled tokens gave the next one: committed as it was drawn.

    The request must have been settled when the step was launched: over a candidate, or a step in
    flight that will give one, the row is provisional whatever the size of the step.
    """

    token: int


class Proposed(NamedTuple):
    """The fast path decoded a candidate; `may_finish` if it could end the request."""

    token: int
    may_finish: bool


class Verified(NamedTuple):
    """A canonical pass ran over `due_span`; its tokens for positions [n, span.end].

    They may end at the first disagreement: the rows after it stand on a wrong token.
    """

    tokens: Sequence[int]


class Retracted(NamedTuple):
    """The engine took the KV back; prefill starts again over the tokens it has.

    That is every committed one, but for a first token that was born and not yet handed over: it
    will be born again, from the same row.
    """

    committed_len: int


Event = Prefilled | Born | Stepped | Proposed | Verified | Retracted


class Action(NamedTuple):
    """What the engine does after a step.

    A committed run may go past a stop token or the length limit: the engine cuts it there.
    """

    commit: tuple[int, ...] = ()  # append to the output and release to the client
    dropped: int = 0  # candidates that never existed


def step(track: Track, event: Event) -> tuple[Track, Action]:
    """Apply one event. Pure; raises AssertionError on an event the state does not allow."""
    match event:
        case Prefilled(upto):
            assert track.canonical_len <= upto <= track.committed_len and not track.decoding
            return replace(track, canonical_len=upto), Action()
        case Born(token):
            assert track.canonical_len == track.committed_len and not track.decoding
            born = replace(track, committed_len=track.committed_len + 1, decoding=True)
            return born, Action(commit=(token,))
        case Stepped(token):
            assert track.settled, "a canonical step on top of candidates"
            stepped = replace(
                track,
                committed_len=track.committed_len + 1,
                canonical_len=track.committed_len,
                canonical_steps=track.canonical_steps + 1,
            )
            return stepped, Action(commit=(token,))
        case Proposed(token, may_finish):
            assert track.decoding
            return replace(
                track,
                candidates=(*track.candidates, token),
                finish_suspected=track.finish_suspected or may_finish,
            ), Action()
        case Verified(tokens):
            return _verified(track, tokens)
        case Retracted(committed_len):
            assert track.committed_len - track.decoding <= committed_len <= track.committed_len
            again = replace(
                track,
                committed_len=committed_len,
                canonical_len=0,
                candidates=(),
                decoding=False,
                finish_suspected=False,
            )
            return again, Action(dropped=len(track.candidates))


def _verified(track: Track, tokens: Sequence[int]) -> tuple[Track, Action]:
    assert track.decoding
    verdict = judge(track.candidates, tokens)
    rows = track.due_span.end - track.canonical_len  # from n-1 on
    assert len(tokens) == rows or (len(tokens) < rows and verdict.dropped), "rows without a token"
    committed_len = track.committed_len + len(verdict.run)
    after = replace(
        track,
        committed_len=committed_len,
        canonical_len=committed_len - 1,
        candidates=verdict.kept,
        # A kept candidate may be the suspect: stay due rather than forget it.
        finish_suspected=track.finish_suspected and bool(verdict.kept),
        verify_passes=track.verify_passes + 1,
        rollbacks=track.rollbacks + (verdict.dropped > 0),
        tokens_rolled_back=track.tokens_rolled_back + verdict.dropped,
    )
    return after, Action(commit=verdict.run, dropped=verdict.dropped)
