"""Passes and prefills take turns while ordinary requests decode. Pretended batches; no server.

Checked by hand: a prefill that does not count, a pass after which nothing is owed, an ordinary
prefill after which a deterministic one is not, a prefill that gives way every time, and a turn that
nobody takes each fail a test here.
"""

from types import SimpleNamespace

import pytest
from sglang.srt.managers.scheduler import Scheduler
from sglang.srt.model_executor.forward_batch_info import ForwardMode

from llm42_sglang.core.config import Config
from llm42_sglang.engine import scheduler as module
from llm42_sglang.engine.scheduler import DeterministicScheduler
from llm42_sglang.engine.verifier import Verifier


def batch(*kinds: str) -> SimpleNamespace:
    return SimpleNamespace(reqs=list(kinds), batch_size=lambda: len(kinds), batch_is_full=False)


@pytest.fixture
def scheduler(monkeypatch) -> DeterministicScheduler:
    """Two ordinary requests and a deterministic one decode, one more waits."""
    monkeypatch.setattr(module, "ordinary_decodes", lambda running: "ordinary" in running.reqs)
    monkeypatch.setattr(module, "is_deterministic", lambda req: req == "deterministic")
    monkeypatch.setattr(Scheduler, "_should_defer_prefill", lambda self, running: False)
    made = object.__new__(DeterministicScheduler)
    made.waiting_queue, made.chunked_req = ["ordinary"], None
    made.running_batch = batch("ordinary", "deterministic", "ordinary")
    made.llm42_verifier = Verifier(made, SimpleNamespace(), Config())
    return made


def test_after_a_pass_prefill_gives_way_to_one_step(scheduler):
    verifier, running = scheduler.llm42_verifier, scheduler.running_batch
    verifier._canonical = True
    assert scheduler._should_defer_prefill(running)
    scheduler._planned(ForwardMode.DECODE, running)
    assert not scheduler._should_defer_prefill(running)


def test_prefill_does_not_give_way_twice_in_a_row(scheduler):
    running = scheduler.running_batch
    given_way = []
    for _ in range(4):  # a pass before every step
        scheduler.llm42_verifier._canonical = True
        given_way.append(scheduler._should_defer_prefill(running))
        scheduler._planned(ForwardMode.DECODE, running)
    assert given_way == [True, False, True, False]


@pytest.mark.parametrize(
    ("running", "waiting"),
    [
        (batch("deterministic", "deterministic"), 1),  # no ordinary request is held up
        (batch("ordinary", "deterministic"), 2),  # more wait than decode
    ],
)
def test_prefill_goes_first_where_nobody_is_held_up_or_many_wait(scheduler, running, waiting):
    scheduler.waiting_queue = ["deterministic"] * waiting
    scheduler.llm42_verifier._canonical = True
    assert not scheduler._should_defer_prefill(running)


def test_a_verification_owes_a_step(scheduler, monkeypatch):
    verifier, riders = scheduler.llm42_verifier, [["rider"], []]
    ranks = SimpleNamespace(require_agreement=lambda: None)
    verifier.lane = SimpleNamespace(
        audit=SimpleNamespace(failed=False),
        verify=lambda reqs: [],
        forward=SimpleNamespace(ranks=ranks),
    )
    monkeypatch.setattr(verifier, "_riders", lambda batches: riders.pop(0))
    verifier.between_steps(scheduler.running_batch, None)
    assert verifier.decode_owed(deterministic=False)


@pytest.mark.parametrize("waiting", ["ordinary", "deterministic"])
def test_after_an_ordinary_prefill_only_a_canonical_one_gives_way(scheduler, waiting):
    running, scheduler.waiting_queue = scheduler.running_batch, [waiting]
    scheduler._planned(ForwardMode.EXTEND, running)
    assert scheduler._should_defer_prefill(running) == (waiting == "deterministic")


def test_the_rest_of_a_prompt_goes_before_the_queue(scheduler):
    scheduler.chunked_req = "deterministic"
    scheduler._planned(ForwardMode.EXTEND, scheduler.running_batch)
    assert scheduler._should_defer_prefill(scheduler.running_batch)


@pytest.mark.parametrize("nobody", ["waits", "fits"])
def test_no_turn_is_given_to_a_prefill_that_would_not_run(scheduler, nobody):
    scheduler.llm42_verifier._canonical = True
    if nobody == "waits":
        scheduler.waiting_queue = []
    else:
        scheduler.running_batch.batch_is_full = True
    assert not scheduler._should_defer_prefill(scheduler.running_batch)


def test_sglangs_own_interval_counts_on(scheduler, monkeypatch):
    asked = []
    monkeypatch.setattr(Scheduler, "_should_defer_prefill", lambda self, running: asked.append(1))
    scheduler.llm42_verifier._canonical = True
    assert scheduler._should_defer_prefill(scheduler.running_batch) and asked


@pytest.fixture
def seen(scheduler, monkeypatch) -> list[int]:
    """How many passes the policy is told of, ask by ask."""
    passes = []
    policy = SimpleNamespace(choose=lambda due, ran, decoding: passes.append(ran) or [])
    scheduler.llm42_verifier.policy = policy
    monkeypatch.setattr(scheduler.llm42_verifier, "_outlooks", lambda batches: [])
    return passes


@pytest.mark.parametrize(
    ("running", "prefills", "passes"),
    [
        (batch("ordinary", "deterministic"), 0, 0),
        (batch("ordinary", "deterministic"), 1, 1),
        (batch("ordinary", "deterministic"), 2, 0),  # a train of them: no pass waits for its end
        (batch("deterministic"), 1, 0),  # nobody is held up
    ],
)
def test_beside_a_prefill_only_the_blocked_are_verified(scheduler, seen, running, prefills, passes):
    for _ in range(prefills):
        scheduler._planned(ForwardMode.EXTEND, running)
    scheduler.llm42_verifier._riders([])
    scheduler._planned(ForwardMode.DECODE, running)
    scheduler.llm42_verifier._riders([])
    assert seen == [passes, 0]


def test_in_prefills_turn_only_the_blocked_are_verified(scheduler, seen):
    verifier, running = scheduler.llm42_verifier, scheduler.running_batch
    verifier._canonical = True
    assert scheduler._should_defer_prefill(running)
    for _ in range(2):
        scheduler._planned(ForwardMode.DECODE, running)
        verifier._riders([])
        assert not scheduler._should_defer_prefill(running)
    assert seen == [1, 0]
