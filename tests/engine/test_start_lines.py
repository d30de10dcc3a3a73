"""What ends a start says in one line what is wrong and what to do. No server."""

import re
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from sglang.srt import plugins
from sglang.srt.managers import schedule_batch

from llm42_sglang.core.config import Config, ConfigError
from llm42_sglang.engine import faults, hooks
from llm42_sglang.engine.errors import CertificationError, SeamError, UnsupportedError
from llm42_sglang.engine.loop.stop_regex import match_in_linear_time
from llm42_sglang.engine.names import PINNED_SGLANG, REFUSED_TO_START
from llm42_sglang.engine.start import certify, launch, ready
from llm42_sglang.engine.start.launch import LaunchError, RefusedInScheduler


def refused(kind: type[Exception], function: Callable[..., object], *args: object) -> str:
    """What it says: one line."""
    with pytest.raises(kind) as error:
        function(*args)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_fault_that_nobody_knows(monkeypatch):
    """Who misspells it would take a sound server for a broken one."""
    monkeypatch.setenv(faults.VARIABLE, "a1,decod")
    assert "decod is not a known fault" in refused(ConfigError, faults.active, "a1")


@pytest.mark.parametrize("installed", ["0.5.22", None])
def test_another_sglang_or_none(monkeypatch, installed):
    def version(name: str) -> str:
        if installed is None:
            raise launch.PackageNotFoundError
        return installed

    monkeypatch.setattr(launch, "version", version)
    told = refused(LaunchError, launch.require_pinned_sglang)
    assert (installed or "no version") in told and f"pip install sglang=={PINNED_SGLANG}" in told


def test_an_sglang_that_did_not_load_the_plugin(monkeypatch):
    monkeypatch.setattr(plugins, "load_plugins", lambda: None)
    monkeypatch.setattr(hooks, "registered", lambda: False)
    assert "SGLANG_PLUGINS" in refused(LaunchError, launch._load_plugin)


def test_a_scheduler_that_refuses_is_told_from_one_that_crashes():
    said = "Rank 0 scheduler died (exit code: {})".format
    assert RefusedInScheduler.is_why(RuntimeError(said(REFUSED_TO_START)))
    assert not RefusedInScheduler.is_why(RuntimeError(said(1)))
    assert not RefusedInScheduler.is_why(RuntimeError(said(f"{REFUSED_TO_START}1")))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"is_hybrid_swa": True}, "--disable-hybrid-swa-memory"),
        ({"is_hybrid_ssm": True}, "serve this one without llm42"),
        ({"is_multimodal": True}, "serve this one without llm42"),
        ({"context_len": 33}, "--context-length 32"),
    ],
    ids=str,
)
def test_a_model_that_passes_cannot_run(model, told):
    plain = {"is_hybrid_swa": False, "is_hybrid_ssm": False, "is_multimodal": False}
    fields = SimpleNamespace(**plain | {"context_len": 64} | model)
    worker = SimpleNamespace(model_runner=SimpleNamespace(model_config=fields))
    kinds = {"is_hybrid_swa": fields.is_hybrid_swa, "is_hybrid_ssm": fields.is_hybrid_ssm}
    scheduler = SimpleNamespace(tp_worker=worker, **kinds)
    check = ready._require_supported_model
    assert told in refused(UnsupportedError, check, scheduler, Config())


def test_ranks_of_different_fingerprints(monkeypatch):
    """Each rank alone would serve; together they would answer under one of the two names."""
    for name in ("canonical_mode", "keep_from_reset", "ByContent", "CanonicalForward"):
        monkeypatch.setattr(ready, name, lambda *args, **kwargs: None)
    monkeypatch.setattr(ready, "facts_of", lambda *args: {"threads": 2})
    monkeypatch.setattr(ready, "_with_devices_of_first", lambda ranks, variables: {})
    monkeypatch.setattr(ready, "_require_supported_model", lambda *args: None)
    monkeypatch.setattr(ready, "_require_same_checkpoint", lambda ranks: None)
    ranks = SimpleNamespace(rank=0, gather=lambda mine: [mine, {**mine, "threads": 4}])
    monkeypatch.setattr(ready, "join_ranks", lambda: ranks)
    certificate = SimpleNamespace(shape=None)
    exams: list[bool] = []
    monkeypatch.setattr(
        ready, "certify", lambda forward, with_steps: exams.append(with_steps) or certificate
    )
    identity = SimpleNamespace(fingerprint="mine", facts={"threads": 2, "weights": "one"})
    monkeypatch.setattr(ready, "Identity", lambda facts, naming: identity)
    worker = SimpleNamespace(model_runner=None)
    scheduler = SimpleNamespace(tp_worker=worker, tokenizer=None, max_req_len=9)
    told = refused(UnsupportedError, ready.make_ready, scheduler, Config())
    assert told == "rank 1 differs from rank 0 in threads (4, not 2); make them alike"
    assert exams == []  # the exam itself may fail where ranks differ
    other = {"weights": "another"}  # these are known after the exam
    monkeypatch.setattr(
        ranks, "gather", lambda mine: [mine, mine | other if "weights" in mine else mine]
    )
    assert "in weights" in refused(UnsupportedError, ready.make_ready, scheduler, Config())
    monkeypatch.setattr(ranks, "gather", lambda mine: [mine, mine])
    assert ready.make_ready(scheduler, Config()).identity is identity


def test_a_model_whose_pass_fails(monkeypatch):
    def exam(forward):
        raise RuntimeError("no kernel for this")

    monkeypatch.setattr(certify, "Exam", exam)
    forward = SimpleNamespace(ranks=SimpleNamespace(size=2))
    told = refused(CertificationError, certify.certify, forward)
    assert "RuntimeError: no kernel for this" in told and "serve it without llm42" in told


def test_weights_change_by_updates_only():
    runner = SimpleNamespace(check_weights=lambda action, **kwargs: (action, kwargs))
    ready.keep_from_reset(runner)
    reset = lambda: runner.check_weights(action="reset_tensors")  # noqa: E731
    assert "by updates only" in refused(ValueError, reset)
    assert runner.check_weights(action="checksum", a=1) == ("checksum", {"a": 1})


def test_an_sglang_that_searches_stop_regex_with_something_else(monkeypatch):
    """Its module would keep `re`, and a pattern could stop the scheduler."""
    monkeypatch.setattr(schedule_batch, "re", SimpleNamespace(search=re.search))
    assert "stop_regex" in refused(SeamError, match_in_linear_time)
