"""Data parallelism: every replica's scheduler must prove that its hooks are live. No server."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from sglang.srt.entrypoints.engine import SchedulerInitResult

from llm42_sglang.core.config import Config
from llm42_sglang.core.receipts import fingerprint
from llm42_sglang.engine.front import replicas
from llm42_sglang.engine.front.gatekeeper import Gatekeeper
from llm42_sglang.engine.front.updates import UpdateHooks
from llm42_sglang.engine.names import INFO_KEY, REFUSED_TO_START
from llm42_sglang.engine.weights.report import Report, reports_in

READY = {"status": "ready"}


def info(fingerprint: str = "f") -> dict:
    certificate = {"widths": (1, 8)}
    proof = {"fingerprint": fingerprint, "facts": {"tp": 1}, "certificate": certificate}
    return READY | {INFO_KEY: proof}


def handed_on(*reported: dict) -> dict:
    """By the controller of two replicas, once their schedulers have reported."""
    args = SimpleNamespace(tp_size=1)
    controller = SimpleNamespace(
        _scheduler_init_infos=[*reported], launch_dp_size=2, server_args=args
    )
    return replicas.hand_on_infos(lambda controller: READY, controller)


def gate_after(handed_on: dict) -> Gatekeeper:
    gate = Gatekeeper(Config())
    init = SchedulerInitResult(scheduler_infos=[handed_on], all_child_pids=[])
    model = SimpleNamespace(vocab_size=100)
    manager = SimpleNamespace(
        model_config=model, tokenizer=None, allow_auto_truncate=False, context_len=99
    )
    gate.check_schedulers((manager, init))
    return gate


def test_two_live_replicas_of_one_fingerprint_are_healthy():
    gate = gate_after(handed_on(info(), info()))
    assert gate.problem is None
    told = json.loads(asyncio.run(gate.describe_fingerprint()).body)
    assert told == {"fingerprint": "f", "facts": {"tp": 1}, "certificate": {"widths": [1, 8]}}


@pytest.mark.parametrize(
    ("info", "told"),
    [
        (handed_on(info(), READY), "not live"),
        (handed_on(info()), "not live"),
        (handed_on(), "not live"),
        (READY, "not live"),  # of a controller without the hook
        (handed_on(info("f"), info("g")), "different fingerprints"),
    ],
)
def test_one_that_is_not_is_a_problem(info, told):
    gate = gate_after(info)
    assert told in gate.problem
    assert asyncio.run(gate.describe_fingerprint()).status_code == 503


def report(weights: str, problem: str | None = None) -> Report:
    """Of a replica, after a weight update."""
    facts = {"tp": 1, "weights": weights, "weight_version": "v2"}
    return Report(fingerprint(facts), weights, "v2", problem)


@pytest.mark.parametrize(
    ("reports", "problem"),
    [
        ([report("b"), report("b")], None),
        ([report("b"), report("c")], "different fingerprints"),
        ([report("b"), report("b", "llm42: half way")], "half way"),
        ([report("b", "llm42: half way"), report("c")], "half way"),
    ],
)
def test_weights_that_are_not_those_of_all_replicas_are_a_problem(reports, problem):
    gate = gate_after(handed_on(info(), info()))
    messages = " | ".join(each.added_to("updated") for each in reports)  # as SGLang joins them
    UpdateHooks(gate).learn([*reports_in(messages)])
    assert gate.fingerprint == reports[0].fingerprint
    assert (problem is None) == (gate.problem is None) and (problem or "") in str(gate.problem)
    assert not str(gate.problem).startswith("llm42: ")
    served = asyncio.run(gate.describe_fingerprint()).status_code == 200
    assert served == (problem is None)


def test_an_update_that_sglang_has_refused_changes_nothing():
    gate = gate_after(handed_on(info(), info()))
    UpdateHooks(gate).learn([*reports_in("no such folder")])
    assert gate.problem is None and gate.fingerprint == "f"


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
