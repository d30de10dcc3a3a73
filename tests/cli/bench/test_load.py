"""The load generator on a fake server that streams."""

import threading

import pytest

from llm42_sglang.cli.bench import load
from llm42_sglang.cli.bench.load import Load, Target
from llm42_sglang.cli.bench.outcome import outcome_of, percentiles, recompute, tokens_per_s
from llm42_sglang.cli.bench.workload import LoadRequest, mark
from llm42_sglang.errors import UserError
from llm42_sglang.repro.connection import GENERATE, Reply, StreamEvent, at_once

REQUESTS = mark([LoadRequest((i, i + 1), 9) for i in range(1, 9)], 50)
POISSON = Load("50/s", rate_per_s=50)


def test_a_closed_loop_keeps_so_many_in_flight_and_the_order(fake):
    with fake("--token-s", "0.01") as server:
        outcomes = load.run(Target(server.url, True), REQUESTS, Load.closed(3), "test")
        as_ordinary = load.run(Target(server.url, False), REQUESTS, Load.closed(8), "test")
    assert [outcome.request for outcome in outcomes] == REQUESTS
    times = [(o.sent_s, o.chunks[-1].at_s) for o in outcomes]
    assert max(sum(sent <= at < done for sent, done in times) for at, _ in times) == 3
    assert sorted(times) == times
    for outcome in outcomes:  # deterministic ones come in runs, with a receipt
        runs = [chunk.tokens for chunk in outcome.chunks]
        assert runs == ([1, 5, 9] if outcome.request.deterministic else list(range(1, 10)))
        assert outcome.receipt.get("rollbacks") == (1 if outcome.request.deterministic else None)
        assert len(outcome.output_ids) == 9 and 0 < outcome.ttft_s < outcome.end_to_end_s
    assert not any(outcome.receipt for outcome in as_ordinary)
    with pytest.raises(UserError, match="does not verify"):
        recompute(as_ordinary)


def test_a_staggered_loop_spreads_the_ends_of_its_first_answers():
    requests = [LoadRequest((1, 2), 128)] * 20
    shaped = Load.closed(16, staggered=True).shape(requests)
    assert [request.new_tokens for request in shaped[:16]] == [8 * i for i in range(1, 17)]
    assert shaped[16:] == requests[16:]
    assert Load.closed(16).shape(requests) == requests


def test_poisson_arrivals_have_their_rate_follow_the_seed_and_do_not_wait_for_answers(fake):
    times = POISSON.due_s(4001, seed=7)
    assert times == POISSON.due_s(4001, seed=7) != POISSON.due_s(4001, seed=8)
    assert times[0] == 0 and times == sorted(times)
    assert times[-1] == pytest.approx(80, rel=0.1)
    with fake("--token-s", "0.05") as server:  # nearly half a second each
        outcomes = load.run(Target(server.url, True), REQUESTS, POISSON, "test", seed=1)
    assert [o.sent_s for o in outcomes] == POISSON.due_s(8, seed=1)
    assert all(o.ttft_s > 0 for o in outcomes)  # and are not sent early
    assert outcomes[-1].sent_s < min(o.chunks[-1].at_s for o in outcomes)


def test_a_server_that_refuses_or_is_gone_is_a_user_error(fake):
    with fake() as server, pytest.raises(UserError, match="/flush_cache was answered with 404"):
        load.run(Target(server.url + "/elsewhere", True), REQUESTS, Load.closed(2), "test")
    with pytest.raises(UserError, match="stopped answering"):
        load.run(Target(server.url, True), REQUESTS, Load.closed(2), "test")


def test_times_are_of_the_load_and_chunks_without_new_tokens_are_none():
    def streamed(*events: tuple[float, dict]) -> Reply:
        stream = [StreamEvent(*event) for event in events]
        return Reply(GENERATE, 200, "", stream, sent_s=10.5, done_s=14.0)

    def event(at_s: float, tokens: int) -> tuple[float, dict]:
        ids = list(range(tokens))
        return at_s, {"output_ids": ids, "meta_info": {"completion_tokens": tokens}}

    request = LoadRequest((1,), 6)
    reply = streamed(event(11.0, 1), event(12.0, 1), event(13.0, 5), event(13.25, 6))
    outcome, later = (outcome_of(request, reply, start_s, None) for start_s in (10.0, 5.0))
    assert outcome.chunks == ((1.0, 1), (3.0, 5), (3.25, 6))
    assert outcome.output_ids == (0, 1, 2, 3, 4, 5)
    assert (outcome.sent_s, outcome.ttft_s, outcome.end_to_end_s) == (0.5, 0.5, 2.75)
    assert outcome.gaps_s == [2.0, 0.25] and outcome.inter_token_s == [0.5] * 4 + [0.25]
    assert outcome_of(request, reply, 10.0, 0.25).sent_s == 0.25
    assert (tokens_per_s([outcome]), tokens_per_s([outcome, later])) == (6 / 2.75, 12 / 7.75)
    error = (11.0, {"error": {"message": "aborted"}})
    for *events, message in (
        ["has 0 of 6 tokens"],
        [event(11.0, 5), "has 5 of 6 tokens"],
        [error, "broke an answer off.*aborted"],
    ):
        with pytest.raises(UserError, match=message):
            outcome_of(request, streamed(*events), 10.0, None)


def test_percentiles_are_by_nearest_rank_and_of_nothing_there_are_none():
    assert [*percentiles(range(100, 0, -1)).values()] == [100, 50, 90, 99]
    assert [*percentiles([1, 2, 3]).values()] == [3, 2, 3, 3]
    assert [*percentiles([]).values()] == [0, None, None, None]


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
