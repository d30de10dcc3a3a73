"""The protocol commits what the oracle says, whatever the traffic and the candidates."""

from collections import Counter
from typing import ClassVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from .engine_model import Engine, Request
from .oracle import EOS, VOCAB, Asked

MAX_LIVE = 4
POOL_TOKENS = 48  # the longest request takes 29: several in flight means memory pressure
SYSTEM_PROMPT = (1, 2, 3, 4, 5, 4, 3, 2)  # shared starts make the radix cache hit
SETTINGS = settings(
    max_examples=150,
    stateful_step_count=40,
    derandomize=True,
    deadline=None,  # a busy machine is no failure
    suppress_health_check=list(HealthCheck),
)

tokens = st.integers(0, VOCAB - 1)
prompts = st.one_of(
    st.lists(tokens, min_size=1, max_size=9).map(tuple),
    st.builds(
        lambda cut, tail: (*SYSTEM_PROMPT[:cut], *tail),
        st.integers(1, len(SYSTEM_PROMPT)),
        st.lists(tokens, max_size=5),
    ),
)
stops = st.one_of(st.sampled_from([(), (EOS,)]), st.tuples(tokens, tokens))
arrivals = st.tuples(prompts, st.builds(Asked, st.integers(1, 13), stops, st.booleans()))
# Bit i: whether live request i takes part.
masks = st.integers(1, 2**MAX_LIVE - 1)
shifts = st.sampled_from([0, 0, 0, *range(1, VOCAB)])  # 0 agrees with the oracle
# Bit i: whether the size of step i is certified.
certified_sizes = st.one_of(st.just(0), st.integers(0, 2**10 - 1))
which = st.integers(0, MAX_LIVE - 1)


class Protocol(RuleBasedStateMachine):
    """Traffic against the engine model, which checks itself against the oracle."""

    seen: ClassVar[Counter[str]] = Counter()  # over all examples
    checked = False  # since the last rule

    @initialize(
        page_size=st.sampled_from([2, 4]),
        group=st.integers(1, 4),
        first=st.lists(arrivals, min_size=1, max_size=MAX_LIVE),
    )
    def start(self, page_size: int, group: int, first: list[tuple[tuple[int, ...], Asked]]) -> None:
        self.engine = Engine(page_size, group, POOL_TOKENS // page_size)
        for arrival in first:
            self.engine.arrive(*arrival)

    def pick(self, mask: int) -> list[Request]:
        return [request for i, request in enumerate(self.engine.live) if mask >> i & 1]

    @precondition(lambda self: len(self.engine.live) < MAX_LIVE)
    @rule(arrival=arrivals)
    def arrive(self, arrival: tuple[tuple[int, ...], Asked]) -> None:
        self.checked = False
        self.engine.arrive(*arrival)

    @precondition(lambda self: self.engine.live)
    @rule(mask=masks, chunk_pages=st.integers(1, 3), early=st.booleans())
    def run_passes(self, mask: int, chunk_pages: int, early: bool) -> None:
        self.checked = False
        self.engine.run_passes(self.pick(mask), chunk_pages, early)

    @precondition(lambda self: self.engine.live)
    @rule(
        mask=masks,
        right_steps=st.integers(0, 6),
        shift=shifts,
        later_steps=st.integers(0, 3),
        run_ahead=st.booleans(),
        sizes=certified_sizes,
    )
    def decode(
        self,
        mask: int,
        right_steps: int,
        shift: int,
        later_steps: int,
        run_ahead: bool,
        sizes: int,
    ) -> None:
        """Decode steps for some, prefill for the rest of them."""
        self.checked = False
        picked = self.pick(mask)
        self.engine.run_passes([r for r in picked if not r.born], chunk_pages=2)
        for i, offset in enumerate([*[0] * right_steps, shift, *[0] * later_steps]):
            for request in picked:
                if request.born and request in self.engine.live:  # one may take another's memory
                    self.engine.decode(request, offset, run_ahead, bool(sizes >> i & 1))

    @precondition(lambda self: self.engine.live)
    @rule(mask=masks, right=st.integers(0, 4), shift=shifts)
    def draft(self, mask: int, right: int, shift: int) -> None:
        self.checked = False
        for request in self.pick(mask):
            self.engine.draft(request, right, shift)

    @precondition(lambda self: len(self.engine.live) > 1)
    @rule(
        index=which,
        how=st.sampled_from(["retract", "retract", "abort", "abort in flight", "flush"]),
    )
    def disturb(self, index: int, how: str) -> None:
        self.checked = False
        request = self.engine.live[index % len(self.engine.live)]
        match how:
            case "retract":
                self.engine.retract(request)
            case "abort":
                self.engine.leave(request)
            case "abort in flight":
                self.engine.run_passes(self.engine.live, chunk_pages=1, aborted=request)
            case "flush":
                self.engine.flush_cache()

    @invariant()
    def holds(self) -> None:
        self.engine.check()
        self.checked = True

    def teardown(self) -> None:
        if self.checked:  # a failed example has nothing left to say
            self.engine.drain()
            assert len(self.engine.pool.free) == self.engine.pool.total, "pages lost"
            Protocol.seen += self.engine.seen


# What the run must have met, lest it prove nothing.
SITUATIONS = (
    "a certified step on top of candidates",
    "a draft of the wrong token",
    "a draft on top of candidates",
    "a draft that fills a page",
    "a page filled by canonical steps",
    "a page with rows of canonical steps",
    "aborted in flight",
    "cache hit",
    "candidates kept past the page",
    "canonical steps left off in mid-page",
    "due again, the next page full too",
    "finished in a canonical step",
    "first token of the next page",
    "mismatch at the last row",
    "prefill and verification in a pass",
    "retracted for memory",
    "retracted with candidates",
    "rollback",
    "rollback across a page",
    "settled before a page's last row",
    "suspected finish rolled back",
    "two pages of one request in a pass",
)


def test_every_output_is_the_oracles() -> None:
    Protocol.seen.clear()
    run_state_machine_as_test(Protocol, settings=SETTINGS)
    assert not [situation for situation in SITUATIONS if Protocol.seen[situation] < 3]
