"""Companions of every kind beside the same ordinary requests."""

import pytest

from llm42_sglang.cli.bench import beside
from llm42_sglang.cli.bench.outcome import Chunk, Outcome
from llm42_sglang.cli.bench.workload import Request

REQUESTS = [Request((5, i), 4) for i in range(20)]


@pytest.mark.parametrize("kind", beside.COMPANIONS)
def test_only_companions_differ(kind):
    sent, companions = beside.traffic(REQUESTS, 25, kind)
    assert sum(companions) == 5
    ordinary = [s == r for s, r in zip(sent, REQUESTS, strict=True)]
    assert [not same for same in ordinary] == companions
    bodies = [one.body(marked=True)["sampling_params"] for one in sent]
    marked = ["custom_params" in params for params in bodies]
    assert marked == [c and kind.startswith("deterministic") for c in companions]
    sampling = [params["temperature"] > 0 for params in bodies]
    assert sampling == [c and kind.endswith("sampling") for c in companions]


def test_companions_tokens_do_not_count():
    outcomes = [
        Outcome(Request((1,), 10), sent_s, (Chunk(0.0, 0), Chunk(10.0, 10)), ())
        for sent_s in (0.0, 0.0, 5.0)
    ]
    assert beside.ordinary_tokens_per_s(outcomes, [False, True, False]) == pytest.approx(2.0)
    assert beside.ordinary_tokens_per_s(outcomes, [False, False, False]) == pytest.approx(3.0)


def test_ratios_are_within_rounds():
    speeds = {name: [2.0, 4.0, 8.0] for name in beside.COMPANIONS}
    speeds["deterministic, sampling"] = [1.0, 4.0, 6.0]
    result = beside.summary(speeds)
    assert result["ratio"][beside.BASE] == 1
    assert result["ratio"]["deterministic, sampling"] == 0.75
