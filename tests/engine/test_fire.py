"""Traces on the servers that other tests use too, and a judge that can fail."""

import copy

import pytest

from tests.fire import play
from tests.fire.judge import judge, read
from tests.fire.trace import Mixture, Trace, make

SHORT = Mixture(seconds=8, per_second=6, requests=17)


@pytest.mark.parametrize(
    "server",
    [pytest.param(name, marks=pytest.mark.server(name)) for name in ("tiny", "retracting")],
)
def test_a_trace_passes(url, server, tmp_path):
    history = tmp_path / "history.jsonl"
    play.record(url, make(42, SHORT), history)
    lines = list(read(history))
    found = judge(lines)
    assert found.verdict == "PASSED", found.wrong
    assert found.counts["deterministic answers"] > 10
    the_judge_notices(lines)


def the_judge_notices(lines: list[dict]) -> None:
    """The controls: the same history, a little changed."""
    assert judge(lines[:-1]).verdict == "UNKNOWN"
    whole = next(
        i
        for i, line in enumerate(lines)
        if line["what"] == "ask" and line.get("answer") and line["answer"][0]["verified"]
    )
    for part, value in (("ids", [1]), ("text", "?"), ("verified", False), ("digest", "0")):
        changed = copy.deepcopy(lines)
        changed[whole]["answer"][0][part] = value
        assert judge(changed).verdict == "FAILED", part
    changed = copy.deepcopy(lines)
    changed[whole] |= {"status": 500, "said": "no"}
    assert judge(changed).verdict == "FAILED"
    assert judge([*lines[:-1], {"what": "end", "flush": 400, "health": 200}]).verdict == "FAILED"


def test_a_seed_makes_one_trace(tmp_path):
    trace = make(7, SHORT)
    assert trace == make(7, SHORT) != make(8, SHORT)
    trace.save(tmp_path / "trace.json")
    assert Trace.load(tmp_path / "trace.json") == trace
