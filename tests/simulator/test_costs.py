"""Measured costs as straight lines, and passes that are as narrow as their pages allow."""

from dataclasses import replace

import pytest

from llm42_sglang.simulator.costs import CostModel
from llm42_sglang.simulator.measured import cost_model
from llm42_sglang.simulator.report import simulate
from llm42_sglang.simulator.systems import ours
from llm42_sglang.simulator.workload import Workload


def test_lines_go_through_points_that_lie_on_one() -> None:
    costs = {
        "decode": {"1": {"64": 2.0, "512": 4.0}, "4": {"64": 5.0, "512": 7.0}},
        "pass": {"1": {"0": 10.0}, "2": {"0": 11.0}, "4": {"0": 13.0}},
    }
    model = cost_model(16, costs)
    assert model.decode_s(1) == pytest.approx(3) and model.decode_s(3) == pytest.approx(5)
    assert [model.pass_s(16 * n) for n in (1, 2, 4)] == pytest.approx([10, 11, 13])
    assert model.prefill_s(32) == model.pass_s(32)


def test_a_single_point_makes_a_flat_line() -> None:
    model = CostModel.through({8: 3.0}, {32: 5.0})
    assert model.decode_s(1) == model.decode_s(100) == 3 and model.pass_s(7) == 5


def test_no_line_says_that_work_gains_time() -> None:
    bent = CostModel.through({1: 1.0, 2: 1.0}, {32: 0.1, 64: 0.2, 128: 0.4, 256: 0.8, 512: 2.5})
    assert bent.pass_base_s == 0 and bent.pass_s(32) > 0


@pytest.mark.parametrize(("pages", "rows"), [(1, 16), (2, 32), (3, 64), (5, 128), (8, 128)])
def test_a_narrow_pass_has_a_power_of_two_of_slots(pages: int, rows: int) -> None:
    system = ours(16, 8)
    assert replace(system, narrow=True).pass_rows(pages) == rows
    assert system.pass_rows(pages) == 128


def test_narrow_passes_cost_less_where_few_are_due() -> None:
    quiet = Workload(requests=20, deterministic_share=0.1, seed=1)
    wide, narrow = ours(32, 8), replace(ours(32, 8), narrow=True)
    assert simulate(narrow, quiet).verify_share < simulate(wide, quiet).verify_share
