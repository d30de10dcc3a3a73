"""The protocol: one request's state, its events, and the pure function `step` that applies them.

    positions   0 ............ n-1 | n ........ N-1
                committed tokens   | candidates
    KV rows     [0, canonical_len) | provisional, rewritten in place by the next pass

Row p of the KV belongs to the token of position p, and the logits of row p choose token p+1.

A decoding request has `canonical_len == committed_len - 1`. Its last committed token was drawn from
a canonical row, but has no canonical row of its own yet. The next decode step writes that row:

- A canonical step writes a canonical row, and the token that it draws is committed at once.
- Any other step writes a provisional row, and the token that it draws is a candidate.

Once there is a candidate, only a canonical pass can commit: it draws from the row of the last
committed token and from the candidates' rows. It recomputes their page from the first row on. Rows
of that page that canonical steps wrote keep the bits they have.

The life of a request, in events: `Prefilled` once for each chunk of the prompt, `Born` with the
first token, then `Stepped`, or `Proposed` until `Verified`. `Retracted` may come at any time and
leads back to `Prefilled`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, assert_never

from llm42_sglang.core.pages import Span, page_index, page_span
from llm42_sglang.core.verdict import judge


@dataclass(frozen=True, slots=True)
class Track:
    """The state of one deterministic request. Lengths count tokens from position 0."""

    page_size: int  # T
    committed_len: int  # n: prompt and committed output
    canonical_len: int = 0  # rows [0, canonical_len) are canonical
    candidates: tuple[int, ...] = ()  # tokens of positions [n, N)
    decoding: bool = False  # the prompt's last row has given the first token
    finish_suspected: bool = False  # a candidate may end the request
    canonical_steps: int = 0  # tokens that canonical steps committed, without a pass
    verify_passes: int = 0
    rollbacks: int = 0
    tokens_rolled_back: int = 0

    @property
    def known_len(self) -> int:
        """N: the number of committed tokens and candidates."""
        return self.committed_len + len(self.candidates)

    @property
    def kv_len(self) -> int:
        """The KV rows that decoding builds on: one for every known token but the last."""
        return self.known_len - 1

    @property
    def page(self) -> int:
        """The page that the next pass covers: the one with the last committed token."""
        return page_index(self.committed_len - 1, self.page_size)

    @property
    def due_span(self) -> Span:
        """The positions of `page` whose tokens are known: the next pass's rows without padding."""
        start, end = page_span(self.page, self.page_size)
        return Span(start, min(end, self.known_len))

    @property
    def room(self) -> int:
        """How many more candidates fit into `page`; negative when some lie past its end."""
        return page_span(self.page, self.page_size).end - self.known_len

    @property
    def settled(self) -> bool:
        """The request decodes and has no candidates: a canonical step may commit its token."""
        return self.decoding and not self.candidates

    @property
    def due(self) -> bool:
        """There are candidates to verify now: `page` is full, or one may end the request."""
        return bool(self.candidates) and (self.room <= 0 or self.finish_suspected)

    @property
    def ahead(self) -> int:
        """The number of candidates past the end of `page`: how far the request ran ahead."""
        return max(0, -self.room)


class Prefilled(NamedTuple):
    """Rows [0, upto) are canonical: passes wrote them, or the prefix cache held them."""

    upto: int


class Born(NamedTuple):
    """The prompt's last row gave the first token. It is committed at once: the row is canonical."""

    token: int


class Stepped(NamedTuple):
    """A canonical step drew the next token of a settled request; it is committed at once.

    The request must have been settled when the step was launched, with no step in flight that
    would give a candidate. Otherwise the row is provisional, whatever the size of the step.
    """

    token: int


class Proposed(NamedTuple):
    """A decode step or a draft gave a candidate. `may_finish`: it could end the request.

    A draft need not say so, for a pass verifies it at once.
    """

    token: int
    may_finish: bool


class Verified(NamedTuple):
    """A canonical pass ran over `due_span` and drew tokens for the positions [n, due_span.end].

    The tokens may end at the first disagreement, for the rows after it follow a wrong token.
    """

    tokens: Sequence[int]


class Retracted(NamedTuple):
    """The engine took the KV back, and will prefill `committed_len` tokens again.

    These are all committed tokens, with one exception: a first token that is not in the output yet
    is left out. Prefill will draw it again, from the same row.
    """

    committed_len: int


Event = Prefilled | Born | Stepped | Proposed | Verified | Retracted


class Action(NamedTuple):
    """What the engine must do after a step.

    The tokens to commit may go past a stop token or the length limit. The engine cuts them there.
    """

    commit: tuple[int, ...] = ()  # append to the output and release to the client
    dropped: int = 0  # candidates to forget, as if they had never been


def step(track: Track, event: Event) -> tuple[Track, Action]:
    """Apply one event. An event that the state does not allow is an AssertionError."""
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
        case _:
            assert_never(event)


def _verified(track: Track, tokens: Sequence[int]) -> tuple[Track, Action]:
    assert track.decoding
    verdict = judge(track.candidates, tokens)
    rows = track.due_span.end - track.canonical_len  # from row n-1 on
    assert len(tokens) == rows or (len(tokens) < rows and verdict.dropped), "rows without a token"
    committed_len = track.committed_len + len(verdict.run)
    after = replace(
        track,
        committed_len=committed_len,
        canonical_len=committed_len - 1,
        candidates=verdict.kept,
        # The suspected finish may be among the kept candidates, so the request stays due.
        finish_suspected=track.finish_suspected and bool(verdict.kept),
        verify_passes=track.verify_passes + 1,
        rollbacks=track.rollbacks + (verdict.dropped > 0),
        tokens_rolled_back=track.tokens_rolled_back + verdict.dropped,
    )
    return after, Action(commit=verdict.run, dropped=verdict.dropped)
