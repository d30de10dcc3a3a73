"""Traces on the servers that other tests use too, and a judge that can fail."""

import copy
from pathlib import Path

import pytest

from tests.fire.alone import Oracle
from tests.fire.judge import judge, read
from tests.fire.play import record
from tests.fire.seeded import Mixture, make
from tests.fire.trace import CHANGED, PLAIN, Trace, kept

KEPT = [path for path, trace in kept() if trace.server == "tiny"]
SHORT = Mixture(seconds=2, per_second=22, requests=22, troubles=0.1)


def played(trace: Trace, oracle: Oracle, folder: Path) -> list[dict]:
    """The lines of its history."""
    path = folder / "history.jsonl"
    record(trace, path, oracle)
    return list(read(path))


@pytest.mark.parametrize(
    "server",
    [pytest.param(name, marks=pytest.mark.server(name)) for name in ("tiny", "retracting")],
)
def test_a_trace_passes(url, server, tmp_path):
    lines = played(make(server, 269, SHORT), Oracle(url), tmp_path)
    found = judge(lines)
    assert found.verdict == "PASSED", found.wrong
    assert found.counts["deterministic answers"] > 10
    the_judge_notices(lines)


@pytest.mark.server("other weights")
def test_a_trace_with_weight_updates_passes(weights, tmp_path):
    mixture = Mixture(2, 20, requests=12, troubles=0.2, weights=(PLAIN, CHANGED))
    lines = played(make("updates", 273, mixture), Oracle(weights.url, weights), tmp_path)
    found = judge(lines)
    assert found.verdict == "PASSED", found.wrong
    assert found.counts["update"] == 3 and found.counts["deterministic answers"] > 10
    # The control: each set of weights has the right answers of the other one.
    for line in (line for line in lines if line["what"] == "alone"):
        for one, other in zip(*(answers["answer"] for answers in line["answers"]), strict=True):
            one["fingerprint"], other["fingerprint"] = other["fingerprint"], one["fingerprint"]
    assert judge(lines).verdict == "FAILED"


@pytest.mark.server("tiny")
@pytest.mark.parametrize("path", KEPT, ids=[path.stem for path in KEPT])
def test_a_trace_that_once_failed_passes(url, path, tmp_path):
    found = judge(played(Trace.load(path), Oracle(url), tmp_path))
    assert found.verdict == "PASSED", found.wrong


def is_whole(line: dict) -> bool:
    """Whether it has one deterministic answer, to its end."""
    (one, *others) = line.get("answer") or [{"verified": False}]
    verified = one["verified"] and not (others or one["refuted"] or line.get("left"))
    return bool(verified) and len(one["segments"]) <= 1 and one["finish"]["type"] != "abort"


def the_judge_notices(lines: list[dict]) -> None:
    """The controls: the same history, a little changed."""
    assert judge(lines[:-1]).verdict == "UNKNOWN"
    whole = next(i for i, line in enumerate(lines) if line["what"] == "ask" and is_whole(line))
    changes = {"ids": [1], "text": "?", "verified": False, "digest": "0", "fingerprint": "0"}
    for part, value in changes.items():
        changed = copy.deepcopy(lines)
        changed[whole]["answer"][0][part] = value
        assert judge(changed).verdict == "FAILED", part
    changed = copy.deepcopy(lines)
    changed[whole] |= {"status": 500, "said": "no", "answer": []}
    assert judge(changed).verdict == "FAILED"
    assert judge([*lines[:-1], lines[-1] | {"flush": 400}]).verdict == "FAILED"
