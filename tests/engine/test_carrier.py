"""Pages that ride in decode steps. No server."""

from collections import deque
from types import SimpleNamespace

import pytest
import torch
from sglang.srt.model_executor.forward_batch_info import ForwardMode

from llm42_sglang.core.config import Config
from llm42_sglang.core.track import Track
from llm42_sglang.engine.canonical import DecodeRows
from llm42_sglang.engine.carrier import carry_pages, carrying
from llm42_sglang.engine.lane import Verified
from llm42_sglang.engine.request import DeterministicReq, Outlook
from llm42_sglang.engine.verifier import Verifier

T = 16


def forward_batch(mode: ForwardMode = ForwardMode.DECODE) -> SimpleNamespace:
    fields = dict.fromkeys(DecodeRows._fields, torch.zeros(1))
    return SimpleNamespace(forward_mode=mode, **fields)


def original(runner, batch) -> str:
    return "SGLang's own"


def test_one_forward_is_run_by_the_carrier_which_may_run_one_itself():
    def carry(rows: DecodeRows) -> list[str]:
        return ["carried", carry_pages(original, None, forward_batch(ForwardMode.EXTEND))]

    with carrying(carry):
        ran = [carry_pages(original, None, forward_batch()) for _ in range(2)]
    assert ran == [["carried", "SGLang's own"], "SGLang's own"]


@pytest.mark.parametrize("carry", [None, lambda rows: "carried"])
def test_outside_of_it_forwards_are_sglangs(carry):
    with carrying(carry):
        pass
    assert carry_pages(original, None, forward_batch()) == "SGLang's own"


def test_nothing_but_a_decode_step_is_carried():
    with carrying(lambda rows: "carried"), pytest.raises(AssertionError):
        carry_pages(original, None, forward_batch(ForwardMode.EXTEND))


class Request(DeterministicReq):
    """A deterministic one that decodes."""

    return_hidden_states = False
    chooser = SimpleNamespace(looks_back=False)

    def __init__(self, name: str, finished: bool = False, decoding: bool = True):
        self.name, self.over = name, finished
        self.track = Track(T, 1, decoding=decoding)

    def __repr__(self) -> str:
        return self.name

    def finished(self) -> bool:
        return self.over


A, B, C = map(Request, "abc")
ORDINARY = SimpleNamespace(return_hidden_states=False)
STEP = SimpleNamespace(forward_mode=ForwardMode.DECODE, reqs=[A, B, C, ORDINARY])
FULL = Outlook(due=True, ahead=1, waited=1, suspected=False, at_limit=False)


@pytest.fixture
def verifier() -> Verifier:
    """Three requests decode, one page rides in each step."""
    forward = SimpleNamespace(
        width_for=lambda pages: pages,
        seats_beside=lambda rows: 1,
        ranks=SimpleNamespace(require_agreement=lambda: None),
    )
    lane = SimpleNamespace(
        forward=forward,
        audit=SimpleNamespace(failed=False),
        carry=lambda reqs, rows: ([Verified(req, rows) for req in reqs], "output"),
    )
    streamer = SimpleNamespace(hold=lambda: None, release=lambda: None)
    scheduler = SimpleNamespace(device="cpu", output_streamer=streamer, result_queue=deque())
    made = Verifier(scheduler, lane, Config(page=T))
    made.outlooks = {A: FULL, B: FULL._replace(ahead=2, waited=2), C: FULL._replace(due=False)}
    made._outlooks = lambda batches: made.outlooks.items()
    made.settled = []
    made._judge = lambda verified: verified.req
    made._settle = lambda batches, outcomes: made.settled.extend(outcomes)
    return made


def carried(verifier: Verifier, batch: SimpleNamespace = STEP) -> list[Request]:
    """Whose pages ride in this step, and are judged after it."""
    verifier.between_steps(STEP, None)
    assert not verifier.settled, "judged before the step"
    carry = verifier.boarded(batch)
    if carry is not None:
        assert carry("rows") == "output"
    verifier.between_steps(STEP, None)
    return verifier.settled


def test_the_most_urgent_full_page_rides_and_is_judged_after_the_step(verifier):
    assert carried(verifier) == [B]


def test_as_many_ride_as_the_step_has_room_for(verifier):
    verifier.lane.forward.seats_beside = lambda rows: 2
    assert carried(verifier) == [B, A]
    verifier.settled.clear()
    verifier.lane.forward.seats_beside = lambda rows: 0
    assert carried(verifier) == []


@pytest.mark.parametrize(
    "outlook",
    [
        FULL._replace(ahead=0),  # the step writes into its page
        FULL._replace(ahead=16),  # blocked: it must not decode on, whatever the step does
        FULL._replace(at_limit=True),
    ],
)
def test_who_may_not_decode_past_its_page_does_not_ride(verifier, outlook):
    verifier.outlooks = {A: outlook}
    verifier._riders = lambda batches: []
    assert carried(verifier) == []


def test_where_hidden_states_are_wanted_nobody_rides(verifier):
    wants = Request("d")
    wants.return_hidden_states = True
    with_it = SimpleNamespace(forward_mode=ForwardMode.DECODE, reqs=[A, ORDINARY, wants])
    assert carried(verifier, with_it) == []
    assert verifier._seats([STEP, with_it]) == 0


def test_who_was_retracted_when_the_step_was_planned_does_not_ride(verifier):
    assert carried(verifier, SimpleNamespace(reqs=[A, C, ORDINARY])) == []


def test_where_all_are_deterministic_pages_wait_for_company(verifier):
    assert verifier._seats([SimpleNamespace(reqs=[A, B])]) == 0
    assert verifier._seats([SimpleNamespace(reqs=[A]), SimpleNamespace(reqs=[ORDINARY])]) == 1
    assert verifier._seats([SimpleNamespace(reqs=[])]) == 0


def test_a_step_that_turns_out_a_prefill_carries_nobody_later(verifier):
    verifier.between_steps(STEP, None)
    verifier.outlooks = {}
    verifier.between_steps(STEP, None)
    assert verifier.boarded(STEP) is None


@pytest.mark.parametrize("gone", [{"finished": True}, {"decoding": False}])
def test_who_has_ended_or_lost_its_kv_meanwhile_is_not_judged(verifier, gone):
    verifier._carried = [Verified(Request("gone", **gone), "rows"), Verified(A, "rows")]
    verifier.between_steps(STEP, None)
    assert verifier.settled == [A]


def test_an_audit_that_fails_in_a_step_ends_deterministic_service_before_the_next(verifier):
    verifier.between_steps(STEP, None)
    verifier.lane.audit.failed = True  # in this step
    verifier._carried = [Verified(A, "rows")]
    ended = []
    verifier.scheduler.end_deterministic_service = ended.append
    assert verifier._results_wanted([STEP]) is False  # nothing is in flight
    for _ in range(2):
        verifier.between_steps(STEP, None)
        assert verifier.boarded(STEP) is None
    assert ended == [[STEP]] and verifier.settled == []


@pytest.mark.parametrize(
    ("outlooks", "rode", "drains"),
    [({}, False, False), ({A: FULL}, False, True), ({}, True, True)],
)
def test_the_loop_drains_before_and_after_a_step_that_carries(verifier, outlooks, rode, drains):
    verifier.scheduler.result_queue.append((SimpleNamespace(reqs=[]), "result"))
    verifier.outlooks, verifier._riders = outlooks, lambda batches: []
    verifier._carried = [Verified(A, "rows")] * rode
    assert verifier._results_wanted([STEP]) == drains
