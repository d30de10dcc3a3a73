"""Percentiles, rates and recomputation: numbers worked out by hand."""

import pytest

from llm42_sglang.cli.bench.outcome import Chunk, Outcome
from llm42_sglang.cli.bench.stats import percentiles, ratio, recompute, tokens_per_s
from llm42_sglang.cli.bench.workload import Request
from llm42_sglang.cli.errors import UserError


def outcome(sent_s, *chunks, deterministic=False, receipt=None) -> Outcome:
    request = Request((1,), chunks[-1][1], deterministic)
    ids = tuple(range(chunks[-1][1]))
    return Outcome(request, sent_s, tuple(Chunk(*chunk) for chunk in chunks), ids, receipt or {})


def test_percentiles_are_by_nearest_rank():
    assert percentiles(range(100, 0, -1)) == (100, 50, 90, 99)
    assert percentiles([7.0]) == (1, 7.0, 7.0, 7.0)
    assert percentiles([]) == (0, None, None, None)
    assert percentiles([1, 2, 3]) == (3, 2, 3, 3)


def test_ratio_of_what_is_missing_is_missing():
    assert ratio(3, 2) == 1.5
    assert ratio(None, 2) is ratio(1, None) is ratio(1, 0) is None


def test_times_of_a_stream_that_comes_in_runs():
    one = outcome(1.0, (2.0, 1), (4.0, 5), (4.5, 6))
    assert (one.ttft_s, one.end_to_end_s) == (1.0, 3.5)
    assert one.gaps_s == [2.0, 0.5]
    assert one.inter_token_s == [0.5] * 4 + [0.5]


def test_a_rate_is_over_the_time_of_the_whole_load():
    first = outcome(1.0, (2.0, 1), (5.0, 8))
    second = outcome(4.0, (5.0, 1), (21.0, 8))
    assert tokens_per_s([first, second]) == 16 / 20
    assert tokens_per_s([first]) == 8 / 4


def test_recomputation_is_rolled_back_over_all_tokens_made():
    receipt = {"verified": True, "tokens_rolled_back": 2, "rollbacks": 1}
    outcomes = [
        outcome(0.0, (1.0, 3), deterministic=True, receipt=receipt),
        outcome(0.0, (1.0, 3), deterministic=True, receipt=receipt),
        outcome(0.0, (1.0, 100)),
    ]
    found = recompute(outcomes)
    assert found == (2, 6, 4, 2)
    assert found.rate == 0.4
    assert recompute(outcomes[2:]).rate is None


@pytest.mark.parametrize("receipt", [{}, {"verified": False}])
def test_an_answer_that_is_not_verified_measures_nothing(receipt):
    with pytest.raises(UserError, match="does not verify"):
        recompute([outcome(0.0, (1.0, 3), deterministic=True, receipt=receipt)])
