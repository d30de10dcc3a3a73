"""Pages that ride in decode steps. No server. That bits do not change: `test_perturbed.py`."""

from types import SimpleNamespace

import pytest
import torch
from sglang.srt.model_executor.forward_batch_info import ForwardMode

from llm42_sglang.core.track import Retracted
from llm42_sglang.engine.canonical import DecodeRows
from llm42_sglang.engine.carrier import carry_pages, carrying
from llm42_sglang.engine.request import DeterministicReq
from tests.engine.fakes import FULL, Loop, T, batch_of, decoding, end, lane, ordinary

WAIT = 16  # candidates past a page, at most


def forward(mode: ForwardMode = ForwardMode.DECODE) -> str:
    """What SGLang's runner gives, with our hook around it."""
    fields = dict.fromkeys(DecodeRows._fields, torch.zeros(1))
    batch = SimpleNamespace(forward_mode=mode, **fields)
    return carry_pages(lambda runner, batch: "SGLang's own", None, batch)


def test_one_decode_step_is_run_by_the_carrier_which_may_run_a_forward_itself():
    with carrying(lambda rows: "carried beside " + forward(ForwardMode.EXTEND)):
        ran = [forward(), forward()]
    assert ran == ["carried beside SGLang's own", "SGLang's own"]
    with carrying(lambda rows: "never run"):
        pass
    assert forward() == "SGLang's own"


def three(seats: int = 1) -> Loop:
    """A full page, a more urgent one, and one with room, beside an ordinary request."""
    ahead = {"a": 1, "b": 2, "c": -1}
    reqs = [decoding(name, FULL + ahead[name], row) for row, name in enumerate(ahead, start=1)]
    return Loop(*reqs, ordinary(), lane=lane(8, seats=seats))


@pytest.mark.parametrize(
    ("seats", "events"),
    [
        (1, ["carrying step", "commit b"]),
        (2, ["carrying step", "commit b", "commit a"]),
        (0, []),
    ],
)
def test_the_most_urgent_full_pages_ride_and_are_judged_after_the_step(seats, events):
    loop = three(seats)
    loop.before_step()
    loop.carries()
    assert loop.events == events[:1]
    loop.before_step()
    assert loop.events == events


def over(candidates: int = FULL + 1, **sampling) -> DeterministicReq:
    """It has decoded past its page."""
    return decoding("over", candidates, **sampling)


HIDDEN = ordinary()  # hidden states of it are wanted, and a pass keeps none
HIDDEN.return_hidden_states = True
PASS, CARRIED = ["pass", "commit over"], ["carrying step", "commit over"]


@pytest.mark.parametrize(
    ("reqs", "events"),
    [
        ([over(), ordinary()], CARRIED),
        ([over(FULL), ordinary()], []),  # the step writes into its page
        ([over(FULL + WAIT), ordinary()], PASS),  # blocked: nobody waits for the step
        # The next row may not be its own: the other one is no reason to wait.
        ([over(max_new_tokens=T), decoding("another"), ordinary()], PASS),
        ([over(), decoding("another")], []),  # nobody ordinary would wait: pages share a pass
        ([over(), ordinary(), HIDDEN], PASS),
    ],
)
def test_who_rides_and_who_does_not(reqs, events):
    loop = Loop(*reqs, lane=lane(8))
    loop.before_step()
    assert loop.carries() == (events == CARRIED)
    loop.before_step()
    assert loop.events == events


@pytest.mark.parametrize("change", [lambda reqs: reqs.pop(1), lambda reqs: reqs.append(HIDDEN)])
def test_the_step_decides_who_is_there_and_whether_hidden_states_are_wanted(change):
    loop = three()
    loop.before_step()
    change(loop.running_batch.reqs)
    assert not loop.carries()


@pytest.mark.parametrize("lost", [end, lambda req: req.apply(Retracted(2))])
def test_who_has_ended_or_lost_its_kv_meanwhile_is_not_judged(lost):
    loop = three(seats=2)
    loop.before_step()
    assert loop.carries()
    lost(loop.running_batch.reqs[1])
    loop.before_step()
    assert loop.events == ["carrying step", "commit a"]


def test_an_audit_that_fails_in_a_step_ends_deterministic_service_before_the_next():
    loop = three()
    loop.before_step()
    loop.verifier.lane.audit.failed = True  # in this step
    assert loop.carries()
    for _ in range(2):
        loop.before_step()
        assert not loop.carries()
    assert loop.events == ["carrying step", "ended"]


def test_results_come_in_before_a_step_that_carries_and_before_its_pages_are_judged():
    loop = Loop(over(), ordinary(), lane=lane(8))
    for events in (["results"], ["results", "carrying step", "results"]):
        loop.result_queue.append((batch_of(), "result"))
        loop.before_step()
        assert loop.events == events
        assert loop.carries() == (len(events) == 1)
        end(loop.running_batch.reqs[0])  # nobody is due any more
