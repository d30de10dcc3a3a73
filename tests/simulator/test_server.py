"""One run: everybody is served once, time adds up, and the protocol's counts are kept."""

from dataclasses import replace

import pytest

from llm42_sglang.simulator.costs import CostModel
from llm42_sglang.simulator.report import simulate
from llm42_sglang.simulator.server import Server
from llm42_sglang.simulator.systems import (
    System,
    ours,
    sliding,
    synchronous,
    without_run_ahead,
)
from llm42_sglang.simulator.workload import Workload

SYSTEMS = [ours(16, 4), without_run_ahead(ours(16, 4)), sliding(16, 4), synchronous(16)]
MIXED = Workload(requests=40, rate_per_s=20, prompt_mean=64, output_mean=48, flip_rate=0.02)
MIXED = replace(MIXED, deterministic_share=0.5)
by_system = pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)


def served(system: System, workload: Workload) -> Server:
    server = Server(system, workload, CostModel())
    server.run()
    return server


@by_system
@pytest.mark.parametrize("rate_per_s", [0, 2, 200])
def test_everybody_gets_the_output_they_asked_for(system: System, rate_per_s: float) -> None:
    workload = replace(MIXED, rate_per_s=rate_per_s)
    server = served(replace(system, max_running=7), workload)
    assert sorted(request.arrival for request in server.done) == sorted(workload.arrivals())
    for request in server.done:
        assert request.delivered == request.arrival.output_len
        assert request.arrival.at_s < request.first_s <= request.last_s <= server.now_s
        assert request.last_s - request.first_s == pytest.approx(sum(request.gaps_s))


@by_system
def test_time_is_what_was_spent_or_idle(system: System) -> None:
    server = served(system, replace(MIXED, rate_per_s=0))
    totals = server.totals
    assert totals.decode_s + totals.prefill_s + totals.verify_s == pytest.approx(server.now_s)
    pass_s = CostModel().pass_s(system.pass_rows(1))
    assert totals.verify_s == pytest.approx(totals.verify_passes * pass_s)


@by_system
def test_slots_and_tokens_are_counted_once(system: System) -> None:
    totals = served(system, MIXED).totals
    assert 0 < totals.verify_slots <= totals.verify_passes * system.policy.group
    assert 0 < totals.rolled_back < totals.candidates
    assert (totals.filled_slots > 0) == (not system.prefill_alone)


@by_system
def test_the_same_arguments_give_the_same_report(system: System) -> None:
    assert simulate(system, MIXED) == simulate(system, MIXED)
    assert simulate(system, MIXED) != simulate(system, replace(MIXED, seed=1))


@by_system
def test_a_fast_path_that_never_errs_rolls_nothing_back(system: System) -> None:
    assert simulate(system, replace(MIXED, flip_rate=0)).recompute_rate == 0


def test_a_fast_path_that_always_errs_still_ends() -> None:
    report = simulate(ours(16, 4), replace(MIXED, requests=5, flip_rate=1))
    assert report.recompute_rate == 1


def test_one_pass_between_two_decode_steps_while_the_bound_on_count_holds() -> None:
    crowd = replace(MIXED, rate_per_s=0, deterministic_share=1, requests=80)
    system = ours(16, 4)
    within = replace(system, max_running=4 * 16)
    assert simulate(within, crowd).most_passes == 1
    assert simulate(without_run_ahead(within), crowd).most_passes > 1
    # Above it the policy needs several passes, and still serves everybody.
    assert simulate(replace(ours(16, 1), max_running=80), crowd).most_passes > 1


def test_ordinary_traffic_alone_needs_no_pass() -> None:
    report = simulate(ours(16, 4), replace(MIXED, deterministic_share=0))
    assert report.verify_passes == 0 and report.verify_share == 0
    assert report.deterministic.requests == 0 and report.deterministic.ttft_p50_s is None
    assert report.ordinary.requests == MIXED.requests


def test_a_lone_request_by_hand() -> None:
    alone = Workload(requests=1, prompt_mean=16, output_mean=20, flip_rate=0)
    arrival = replace(alone, seed=3).arrivals()[0]
    server = served(ours(16, 4), replace(alone, seed=3))
    pages = {position // 16 for position in range(arrival.prompt_len + arrival.output_len)}
    prompt_pages = {position // 16 for position in range(arrival.prompt_len)}
    # A pass for each page that decoding touches, and none has company to wait for.
    assert server.totals.verify_passes == len(pages - prompt_pages) + (arrival.prompt_len % 16 != 0)
    assert server.totals.decode_steps == server.totals.candidates < arrival.output_len
