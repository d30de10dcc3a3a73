"""What is known about LLM-42, and what we claim over it, in proportion. No absolute speeds."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest

from llm42_sglang.simulator.report import Report, simulate
from llm42_sglang.simulator.systems import (
    ABLATION,
    PAPER_RECOMPUTE,
    System,
    ours,
    sliding,
    synchronous,
    without_run_ahead,
)
from llm42_sglang.simulator.workload import Workload

OFFLINE = Workload(requests=130, output_mean=512)
LONG = Workload(requests=100, output_mean=1024)  # the longest window must fit several times

run = cache(simulate)
by_windows = pytest.mark.parametrize("make", [ours, sliding])


def ablation(make, workload: Workload) -> list[Report]:
    """By window, shortest first."""
    return [run(make(window, group), workload) for window, group in ABLATION]


@by_windows
def test_recompute_grows_with_the_window(make) -> None:
    rates = [report.recompute_rate for report in ablation(make, OFFLINE)]
    assert all(longer > 1.3 * shorter for shorter, longer in pairwise(rates))


@by_windows
def test_throughput_peaks_at_small_windows_in_large_groups(make) -> None:
    speeds = [report.output_tokens_per_s for report in ablation(make, OFFLINE)]
    assert max(speeds) == max(speeds[:2])
    assert speeds[1] > speeds[2] > speeds[3] > speeds[4]


@pytest.mark.parametrize(("flip_rate", "long_windows_are_worse"), [(0.004, True), (0, False)])
def test_it_is_the_flips_that_make_long_windows_worse(flip_rate, long_windows_are_worse) -> None:
    """With its negative control."""
    workload = replace(OFFLINE, flip_rate=flip_rate)
    speeds = [report.output_tokens_per_s for report in ablation(ours, workload)]
    assert (max(speeds[2:4]) < 0.95 * max(speeds[:2])) == long_windows_are_worse


def test_recompute_of_sliding_windows_is_what_the_paper_measured() -> None:
    for (window, group), measured in zip(ABLATION, PAPER_RECOMPUTE, strict=True):
        report = run(without_run_ahead(sliding(window, group)), LONG)
        assert report.recompute_per_output == pytest.approx(measured, rel=0.15)


def test_long_aligned_pages_recompute_less_than_sliding_windows() -> None:
    aligned, slid = run(ours(256, 1), LONG), run(sliding(256, 1), LONG)
    assert aligned.recompute_per_output < 0.9 * slid.recompute_per_output


def test_run_ahead_fills_passes() -> None:
    system = ours(32, 16)
    ahead, at_once = run(system, OFFLINE), run(without_run_ahead(system), OFFLINE)
    assert ahead.slots_per_pass > 2 * at_once.slots_per_pass
    assert ahead.output_tokens_per_s > 1.15 * at_once.output_tokens_per_s
    assert ahead.recompute_rate < 1.5 * at_once.recompute_rate  # what it costs


def test_a_pass_per_suspected_finish_costs_throughput() -> None:
    system = ours(32, 16)
    hasty = replace(system, policy=replace(system.policy, finish_steps=0))
    workload = replace(OFFLINE, requests=250, output_mean=256)
    patient, at_once = run(system, workload), run(hasty, workload)
    assert patient.output_tokens_per_s > 1.05 * at_once.output_tokens_per_s
    assert patient.deterministic.per_token_p50_s < at_once.deterministic.per_token_p50_s


@pytest.mark.parametrize("system", [synchronous(32), synchronous(256)], ids=lambda s: s.name)
def test_ours_beats_the_synchronous_artifact_under_load(system: System) -> None:
    assert (
        run(ours(32, 16), OFFLINE).output_tokens_per_s
        > 1.3 * run(system, OFFLINE).output_tokens_per_s
    )


def test_ordinary_requests_wait_less_than_beside_the_artifact() -> None:
    half = Workload(requests=250, rate_per_s=14, deterministic_share=0.5)
    us, them = run(ours(32, 16), half).ordinary, run(synchronous(32), half).ordinary
    assert us.per_token_p50_s < 0.7 * them.per_token_p50_s
    assert us.per_token_p99_s < 0.8 * them.per_token_p99_s
    assert us.ttft_p99_s < them.ttft_p99_s
