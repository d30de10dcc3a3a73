"""Passes and prefills take turns while ordinary requests decode. Pretended batches; no server.

Checked by hand: a prefill that does not count, a pass after which nothing is owed, an ordinary
prefill after which a deterministic one is not, and a prefill that gives way every time each fail a
test here.
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
    return SimpleNamespace(reqs=list(kinds), batch_size=lambda: len(kinds))


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


@pytest.mark.parametrize(
    ("running", "passes"), [(batch("ordinary", "deterministic"), 1), (batch("deterministic"), 0)]
)
def test_a_prefill_counts_as_a_pass_until_the_next_step(scheduler, running, passes):
    verifier = scheduler.llm42_verifier
    scheduler._planned(ForwardMode.EXTEND, running)
    assert verifier._passes == passes
    scheduler._planned(ForwardMode.DECODE, running)
    assert verifier._passes == 0
