"""Drafts in the loop: who gets a pass for one, and what becomes of wrong ones. No server."""

import pytest
from sglang.srt.managers.schedule_batch import Req
from sglang.srt.model_executor.forward_batch_info import ForwardMode

from llm42_sglang.core.drafts import Costs
from llm42_sglang.engine.loop import drafting
from llm42_sglang.engine.loop.drafting import Drafting, room_of
from llm42_sglang.engine.loop.request import DeterministicReq
from tests.engine.fakes import (
    FULL,
    Loop,
    T,
    batch_of,
    decoding,
    end,
    lane,
    ordinary,
    prompt,
    request,
)

CHEAP = Costs({1: 1.0, 8: 1.0}, {1: 1.0, 64: 1.0})
DEAR = Costs({1: 1.5, 8: 1.5}, CHEAP.steps)  # a pass takes longer than a step


def repeating(name: str = "a", token: int = 0, tokens: int = T + 8, **more) -> DeterministicReq:
    """A request whose text is one token over and over; token 0 is what every pass draws.

    With one token of output there is room for seven candidates in its second page.
    """
    req = decoding(name, prompt=[token] * tokens, output=[token], **more)
    req.kv.kv_allocated_len = req.track.kv_len
    return req


def loop_of(*reqs, costs: Costs = CHEAP) -> Loop:
    return Loop(*reqs, lane=lane(1, 8), drafting=Drafting(costs))


def test_a_draft_fills_the_page_and_one_pass_commits_it_all():
    req = repeating()
    loop = loop_of(req)
    loop.before_step()
    assert loop.events == ["pass", "commit a"]
    assert len(req.output_ids) == 1 + 7 + 1  # the draft, and what the page's last row gives
    assert (req.track.verify_passes, req.track.rollbacks) == (1, 0)
    loop.before_step()  # one pass between two steps; and the next page is not the request's yet
    assert loop.events == ["pass", "commit a"]


def test_negative_control_a_wrong_draft_leaves_nothing_behind():
    req = repeating(token=3)  # the pass draws 0
    loop = loop_of(req)
    loop.before_step()
    assert loop.events == ["pass", "commit a"]
    assert [*req.output_ids] == [3, 0] and req.track.settled
    assert (req.track.rollbacks, req.track.tokens_rolled_back) == (1, 7)
    assert req.kv.kv_allocated_len == req.track.kv_len


def test_without_drafts_the_same_requests_wait_for_a_step():
    req = repeating()
    loop = Loop(req, lane=lane(1, 8))
    loop.before_step()
    assert loop.events == [] and len(req.output_ids) == 1


def test_what_is_drafted_and_what_of_it_is_right_is_counted(monkeypatch):
    loop, counted = loop_of(repeating("a"), repeating("b", token=3)), []
    metrics = loop.verifier.lane.metrics
    monkeypatch.setattr(metrics, "drafted", lambda *count: counted.append(count))
    loop.before_step()
    assert counted == [(7, 7), (7, 0)]


def test_a_draft_goes_on_from_candidates():
    req = repeating(candidates=3)
    loop = loop_of(req)
    loop.before_step()
    assert loop.events == ["pass", "commit a"] and len(req.output_ids) == 1 + 7 + 1


@pytest.mark.parametrize(
    ("costs", "others", "waiting", "events"),
    [
        (CHEAP, [ordinary()], [], ["pass", "commit a"]),
        (DEAR, [ordinary()], [], []),
        (DEAR, [end(ordinary())], [], ["pass", "commit a"]),
        (DEAR, [decoding("b")], [], ["pass", "commit a"]),
        (DEAR, [], [request(Req)], []),
        (DEAR, [], [prompt()], ["pass", "commit a"]),
    ],
)
def test_nobody_ordinary_waits_longer_than_for_a_step(costs, others, waiting, events):
    loop = loop_of(repeating(), *others, costs=costs)
    loop.waiting_queue += waiting
    loop.before_step()
    assert loop.events == events


def test_so_do_prompts_of_which_some_or_all_has_run():
    loop = loop_of(repeating(), costs=DEAR)
    loop.verifier.between_steps(loop.running_batch, batch_of(ordinary(), mode=ForwardMode.EXTEND))
    assert loop.events == []
    loop.chunked_req = ordinary()
    loop.before_step()
    assert loop.events == []
    loop.chunked_req = None
    loop.before_step()
    assert loop.events == ["pass", "commit a"]


def test_pages_to_verify_take_the_free_slots():
    due = decoding("c", candidates=FULL)  # it waits for the last one
    loop = loop_of(repeating(), repeating("b"), due, decoding("d", candidates=1))
    loop.verifier.drafting, drafting = None, loop.verifier.drafting
    loop.before_step()
    assert loop.events == []
    loop.verifier.drafting = drafting
    loop.before_step()
    assert loop.events == ["pass", "commit a", "commit b", "commit c"]


@pytest.mark.parametrize("token", [0, 3])
def test_the_loop_is_drained_for_drafts_that_promise_something(token):
    req = repeating()
    req.launch(certified=True)
    loop = loop_of(req if token == 0 else decoding("unlike", prompt=range(6)))
    loop.result_queue.append((loop.running_batch, None))
    loop.process_batch_result = lambda batch, result: [
        loop.events.append("results"),
        req.output_ids.extend(req.seen(0)),
    ]
    loop.before_step()
    assert loop.events == (["results", "pass", "commit a"] if token == 0 else [])
    assert token or len(req.output_ids) == 1 + 1 + 6 + 1


def at_the_limit(left: int) -> DeterministicReq:
    return repeating(max_new_tokens=1 + left)


def ending() -> DeterministicReq:
    req = repeating()
    req.to_finish = end(ordinary()).finished_reason
    return req


@pytest.mark.parametrize(
    ("req", "room"),
    [
        (repeating(), 7),
        (repeating(candidates=2), 5),
        (repeating(candidates=9), 0),  # it ran ahead of its page
        (repeating(tokens=T), 0),  # the page of the last token is still to be allocated
        (repeating(tokens=T + 1), T - 2),
        (at_the_limit(5), 4),  # the last token comes from a row
        (at_the_limit(1), 0),
        (ending(), 0),
        (prompt(), 0),
    ],
)
def test_the_room_for_a_draft(req, room):
    assert room_of(req) == room


def test_a_long_text_is_learnt_in_parts_and_offers_nothing_before(monkeypatch):
    monkeypatch.setattr(drafting, "LEARNT", 10)
    req = repeating()  # 24 tokens of prompt, one of output
    loop = loop_of(req)
    looks = 0
    while not loop.events:
        assert req.drafter.fixed_len == min(10 * looks, 25)
        loop.before_step()
        looks += 1
    assert looks == 3 and loop.events == ["pass", "commit a"]


def test_a_text_that_is_too_long_is_not_learnt(monkeypatch):
    monkeypatch.setattr(drafting, "LONGEST", 20)
    req = repeating()
    loop = loop_of(req)
    loop.before_step()
    assert loop.events == [] and req.drafter.fixed_len == 0


def test_while_somebody_ordinary_waits_drafts_come_once_in_some_steps():
    drafting_ = Drafting(CHEAP)
    req = repeating()
    batch = batch_of(req, ordinary())
    assert drafting_.choose(batch, []) == [req]
    drafting_.propose(req)
    req = repeating("b")
    batch = batch_of(req, ordinary())
    for _ in range(drafting.EVERY):
        assert drafting_.choose(batch, []) == []
        drafting_.stepped()
    assert drafting_.choose(batch, []) == [req]
    # Alone among deterministic ones it need not wait. Nor does it then matter how it draws.
    drafting_.propose(req)
    req = repeating("c", temperature=0.5)
    assert drafting_.choose(batch_of(req), []) == [req]
    for _ in range(drafting.EVERY):
        drafting_.stepped()
    assert drafting_.choose(batch_of(req, ordinary()), []) == []
