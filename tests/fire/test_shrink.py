"""A trace that fails becomes small, and a soak says what it has seen. No server."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fire import soak as soaks
from tests.fire.judge import Judgement
from tests.fire.requests import KINDS, requests
from tests.fire.seeded import Mixture, make
from tests.fire.shrink import shrink
from tests.fire.trace import Trace

MIXTURE = Mixture(seconds=10, per_second=20, requests=2 * len(KINDS), weights=("plain",))


@given(st.sets(st.integers(0, 80), min_size=1, max_size=4), st.integers(1, 120))
def test_of_any_events_those_are_left_that_are_the_fault(fault, size):
    fault = {place % size for place in fault}
    assert shrink(range(size), fault.issubset, tries=5000) == sorted(fault)


@given(st.integers(0, 30), st.integers(2, 60))
def test_tries_are_bounded_and_what_is_left_was_seen_to_fail(tries, size):
    seen = [tuple(range(size))]

    def fails(part) -> bool:
        nonlocal tries
        tries -= 1
        assert tries >= 0
        if not {0, size - 1} <= {*part}:
            return False
        seen.append(tuple(part))
        return True

    assert tuple(shrink(range(size), fails, tries)) == seen[-1]


def test_no_try_begins_after_the_deadline():
    assert shrink([1, 2, 3], lambda part: pytest.fail("played"), deadline=0.0) == [1, 2, 3]


class Ground:
    """A server with a planted fault: "r100" gets a wrong answer if there is an abort before it."""

    def __init__(self, name, folder):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def play(self, trace: Trace, history) -> Judgement:
        kinds = [event.rid if event.kind == "ask" else event.kind for event in trace.events]
        before = kinds[: kinds.index("r100")] if "r100" in kinds else []
        fails = "abort" in before
        found = Judgement(["r100: other ids"] if fails else [], complete=True)
        found.counts["deterministic answers"] += sum(kind.startswith("r") for kind in kinds)
        return found


@pytest.fixture
def soak(monkeypatch, tmp_path):
    monkeypatch.setattr(soaks, "Playground", Ground)
    return soaks.Soak(tmp_path, tmp_path / "result.json")


def test_a_soak_keeps_the_smallest_trace_that_fails(soak):
    trace = make("tiny", 3, MIXTURE)
    soak.play("tiny", [trace, trace])
    result = json.loads(soak.out.read_text())
    assert result["servers"]["tiny"]["traces"] == 1 and "FAILED" in result["wrong"][0]
    (kept,) = soak.folder.glob("*-small.json")
    assert str(kept) in result["wrong"][-1]
    small = Trace.load(kept)
    assert [event.kind for event in small.events] == ["abort", "ask"]
    (whole,) = (one for one in trace.events if (one.kind, one.rid) == ("ask", "r100"))
    assert small.events[1].rid == "r100"
    assert small.requests[small.events[1].request] == trace.requests[whole.request]


def test_a_trace_of_which_nothing_is_known_does_not_pass_and_is_not_made_small(soak, monkeypatch):
    monkeypatch.setattr(Ground, "play", lambda *_: Judgement(complete=True))
    soak.play("tiny", [make("tiny", 3, MIXTURE)] * 2)
    assert soak.totals["tiny"]["traces"] == 1 and "UNKNOWN" in soak.wrong[0]
    assert not [*soak.folder.glob("*-small.json")]


def test_an_interrupted_soak_says_so(soak, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Ground, "play", interrupted)
    options = SimpleNamespace(trace=None, seconds=None, servers=["tiny"], minutes=1, seed=1)
    with pytest.raises(KeyboardInterrupt):
        soaks.finish(soak, options)
    assert json.loads(soak.out.read_text())["interrupted"]
    monkeypatch.setattr(Ground, "play", lambda *_: Judgement(complete=True))
    soaks.finish(soak, options)
    assert not json.loads(soak.out.read_text())["interrupted"]


def test_a_server_that_does_not_start_is_part_of_the_result(soak, monkeypatch):
    def no_start(*_):
        raise OSError("no port")

    monkeypatch.setattr(Ground, "play", no_start)
    soak.play("tiny", [make("tiny", 3, MIXTURE)])
    assert soak.wrong == ["tiny: OSError: no port"]


def test_a_seed_makes_one_trace_of_all_kinds(tmp_path):
    trace = make("updates", 7, MIXTURE)
    assert trace == make("updates", 7, MIXTURE) != make("updates", 8, MIXTURE)
    trace.save(tmp_path / "trace.json")
    assert Trace.load(tmp_path / "trace.json") == trace
    assert {request.kind for request in requests(len(KINDS))} == {*KINDS}
    kinds = {event.kind for seed in range(5) for event in make("updates", seed, MIXTURE).events}
    assert kinds == {"ask", "abort", "flush", "pause", "storm", "update"}
