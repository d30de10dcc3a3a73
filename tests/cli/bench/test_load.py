"""The load generator against a fake server that streams."""

import threading

import pytest

from llm42_sglang.cli.bench import load
from llm42_sglang.cli.bench.load import Load, Target
from llm42_sglang.cli.bench.outcome import outcome_of
from llm42_sglang.cli.bench.workload import Request, mark
from llm42_sglang.errors import UserError
from llm42_sglang.repro.connection import GENERATE, Event, Reply, at_once

REQUESTS = mark([Request((i, i + 1), 9) for i in range(1, 9)], 50)
SHORT = Request((1,), 2)
POISSON = Load("50/s", rate_per_s=50)


def most_at_once(outcomes) -> int:
    return max(
        sum(other.sent_s <= one.sent_s < other.chunks[-1].at_s for other in outcomes)
        for one in outcomes
    )


def test_a_closed_loop_keeps_so_many_in_flight_and_the_order(fake):
    with fake("--token-s", "0.01") as server:
        outcomes = load.run(Target(server.url, True), REQUESTS, Load.closed(3), "test")
        as_ordinary = load.run(Target(server.url, False), REQUESTS, Load.closed(8), "test")
    assert [outcome.request for outcome in outcomes] == REQUESTS
    assert most_at_once(outcomes) == 3
    assert sorted(o.sent_s for o in outcomes) == [o.sent_s for o in outcomes]
    for outcome in outcomes:  # deterministic ones come in runs, with a receipt
        runs = [chunk.tokens for chunk in outcome.chunks]
        assert runs == ([1, 5, 9] if outcome.request.deterministic else list(range(1, 10)))
        assert outcome.receipt.get("rollbacks") == (1 if outcome.request.deterministic else None)
        assert len(outcome.output_ids) == 9 and 0 < outcome.ttft_s < outcome.end_to_end_s
    assert not any(outcome.receipt for outcome in as_ordinary)


def test_poisson_arrivals_do_not_wait_for_answers(fake):
    with fake("--token-s", "0.05") as server:  # nearly half a second each
        outcomes = load.run(Target(server.url, True), REQUESTS, POISSON, "test", seed=1)
    assert [o.sent_s for o in outcomes] == POISSON.due_s(8, seed=1)
    assert all(o.ttft_s > 0 for o in outcomes)  # and are not sent early
    assert outcomes[-1].sent_s < min(o.chunks[-1].at_s for o in outcomes)


def test_poisson_arrivals_have_their_rate_and_depend_on_the_seed_alone():
    times = POISSON.due_s(4001, seed=7)
    assert times == POISSON.due_s(4001, seed=7) != POISSON.due_s(4001, seed=8)
    assert times[0] == 0 and times == sorted(times)
    assert times[-1] == pytest.approx(80, rel=0.1)


def test_the_cache_is_empty_at_the_start(fake):
    with fake() as server:
        target = Target(server.url, True)
        alone = [
            load.run(target, [REQUESTS[1]], Load.closed(1), "test")[0].output_ids for _ in range(2)
        ]
        second = load.run(target, REQUESTS, Load.closed(1), "test")[1].output_ids
    assert alone[0] == alone[1] != second  # the fake server counts requests since the last flush


def test_a_server_that_refuses_answers_too_short_or_is_gone_is_a_user_error(fake):
    with fake("--broken", "short") as server:
        with pytest.raises(UserError, match="/flush_cache was answered with 404"):
            load.run(Target(server.url + "/elsewhere", True), REQUESTS, Load.closed(2), "test")
        with pytest.raises(UserError, match="has 8 of 9 tokens"):
            load.run(Target(server.url, True), REQUESTS, Load.closed(2), "test")
    with pytest.raises(UserError, match="stopped answering"):
        load.run(Target(server.url, True), REQUESTS, Load.closed(2), "test")


def streamed(*events: tuple[float, dict]) -> Reply:
    return Reply(GENERATE, 200, "", [Event(*event) for event in events], sent_s=10.5, done_s=14.0)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], "has 0 of 2 tokens"),
        ([(11.0, {"error": {"message": "aborted"}})], "broke an answer off.*aborted"),
    ],
)
def test_a_broken_stream_is_a_user_error(events, said):
    with pytest.raises(UserError, match=said):
        outcome_of(SHORT, streamed(*events), 10.0, None)


def test_chunks_without_new_tokens_are_none_and_times_are_of_the_load():
    def event(ids: list[int]) -> dict:
        return {"output_ids": ids, "meta_info": {"completion_tokens": len(ids)}}

    reply = streamed((11.0, event([4])), (12.0, event([4])), (13.0, event([4, 5])))
    outcome = outcome_of(SHORT, reply, 10.0, None)
    assert outcome.chunks == ((1.0, 1), (3.0, 2)) and outcome.output_ids == (4, 5)
    assert outcome.sent_s == 0.5 and outcome_of(SHORT, reply, 10.0, 0.25).sent_s == 0.25


def test_after_an_error_nobody_waits_for_what_is_under_way_and_nothing_more_is_sent():
    sent, go_on = [], threading.Event()

    def ask(i: int) -> int:
        sent.append(i)
        if i == 1:
            raise UserError("refused")
        go_on.wait(60)
        return i

    with pytest.raises(UserError, match="refused"):
        at_once(ask, range(9), in_flight=2)
    assert len(sent) <= 3  # the thread that failed may have taken one more
    go_on.set()
