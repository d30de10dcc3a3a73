"""The schedule, and the summary of made-up measurements."""

import pytest

from llm42_sglang.cli.bench.stats import Recompute
from llm42_sglang.cli.bench.throughput import Measured, Step, schedule, summary


def test_rounds_are_interleaved_and_who_is_first_changes():
    steps = schedule([0, 50], 2, serial=True)
    first = [(0, "stock"), (0, "llm42"), (50, "stock"), (50, "llm42"), (0, "serial")]
    second = [(0, "llm42"), (0, "stock"), (50, "llm42"), (50, "stock"), (0, "serial")]
    assert [(step.share, step.server) for step in steps] == first + second
    assert [step.round for step in steps] == [0] * 5 + [1] * 5
    assert [step.server for step in schedule([0], 1, serial=False)] == ["stock", "llm42"]


@pytest.fixture
def measured() -> Measured:
    """Three rounds; the machine is ten times slower in the last, for everybody."""
    made = Measured()
    for number, speed, ratio in ((0, 100, 0.9), (1, 100, 0.5), (2, 10, 0.8)):
        for share, factor in ((0, 1), (100, ratio)):
            made.tokens_per_s[Step(number, share, "stock")] = speed
            made.tokens_per_s[Step(number, share, "llm42")] = speed * factor
            lost = 10 * number * (share == 100)
            made.recomputed[Step(number, share, "llm42")] = Recompute(4, 90, lost, number)
        made.tokens_per_s[Step(number, 0, "serial")] = speed / 10
    return made


def test_ratios_are_medians_of_ratios_within_a_round(measured):
    result = summary(measured)
    assert result["ratio_to_stock"] == {"0": 1, "100": 0.8}
    assert result["ratios_to_stock"]["100"] == pytest.approx([0.9, 0.5, 0.8])
    assert result["speedup_over_serial"] == pytest.approx(8)
    assert result["speedup_at_share"] == "100"
    assert result["tokens_per_s"]["serial"] == [10, 10, 1]


def test_recomputation_is_over_all_rounds(measured):
    result = summary(measured)
    assert result["recompute_rate_by_share"] == {"0": 0, "100": 30 / (270 + 30)}
    assert result["recompute_rate"] == 30 / (540 + 30)
    assert result["rollbacks"] == 2 * (0 + 1 + 2)
