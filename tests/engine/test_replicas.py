"""Data parallelism: every replica's scheduler must prove that its hooks are live. No server."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from sglang.srt.entrypoints.engine import SchedulerInitResult

from llm42_sglang.core.config import Config
from llm42_sglang.engine import replicas
from llm42_sglang.engine.gatekeeper import Gatekeeper
from llm42_sglang.engine.names import INFO_KEY, REFUSED_TO_START


def info(fingerprint: str = "f", widths: tuple[int, ...] = (1, 8)) -> dict:
    certificate = {"widths": widths}
    proof = {"fingerprint": fingerprint, "facts": {"tp": 1}, "certificate": certificate}
    return {"status": "ready", INFO_KEY: proof}


def gate_after(*reported: dict, expected: int = 2) -> Gatekeeper:
    """The front, once the controller has handed on what the schedulers have reported."""
    controller = SimpleNamespace(
        _scheduler_init_infos=list(reported),
        launch_dp_size=expected,
        server_args=SimpleNamespace(tp_size=1),
    )
    handed_on = replicas.hand_on_infos(lambda controller: {"status": "ready"}, controller)
    gate = Gatekeeper(Config())
    init = SchedulerInitResult(scheduler_infos=[handed_on], all_child_pids=[])
    gate.check_schedulers((None, init))
    return gate


def test_two_live_replicas_of_one_fingerprint_are_healthy():
    gate = gate_after(info(), info())
    assert gate.problem is None
    told = json.loads(asyncio.run(gate.describe_fingerprint()).body)
    assert told == {"fingerprint": "f", "facts": {"tp": 1}, "certificate": {"widths": [1, 8]}}


@pytest.mark.parametrize(
    ("reported", "told"),
    [
        ((info(), {"status": "ready"}), "not live"),
        ((info(),), "not live"),
        ((), "not live"),
        ((info("f"), info("g")), "different fingerprints"),
    ],
)
def test_one_that_is_not_is_a_problem(reported, told):
    gate = gate_after(*reported)
    assert told in gate.problem
    assert asyncio.run(gate.describe_fingerprint()).status_code == 503


def test_a_controller_without_the_hook_is_a_problem():
    gate = Gatekeeper(Config())
    init = SchedulerInitResult(scheduler_infos=[{"status": "ready"}], all_child_pids=[])
    gate.check_schedulers((init,))
    assert "not live" in gate.problem


@pytest.mark.parametrize(("status", "ours"), [(REFUSED_TO_START, REFUSED_TO_START), (-9, 1)])
def test_a_replica_that_fails_takes_the_controller_along(monkeypatch, status, ours):
    left = []

    class Process:
        """Runs, then ends with the status."""

        pid, polls = 7, 0

        @property
        def exitcode(self):
            self.polls += 1
            return None if self.polls == 1 else status

    monkeypatch.setattr(replicas, "POLL_S", 0)
    monkeypatch.setattr(replicas.os, "_exit", left.append)
    replicas.leave_with_first([SimpleNamespace(pid=6, exitcode=None), Process()])
    assert left == [ours]
