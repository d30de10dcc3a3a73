"""Whatever goes wrong when passes are checked after a weight update is told, and ends the service.

On real passes: test_certify.py. What follows for the service: test_updates.py. No server.
"""

from types import SimpleNamespace

import pytest

from llm42_sglang.core.config import Config
from llm42_sglang.engine.errors import CertificationError, RanksDisagreeError
from llm42_sglang.engine.start import certify

POOL = 64  # tokens


class Passes:
    """The exam's small part, and what it meets."""

    def __init__(self, error: Exception | None) -> None:
        self.error, self.runs = error, 0

    def small_part(self, shape) -> list:
        self.runs += 1
        if self.error:
            raise self.error
        return []


def rechecked(monkeypatch, error=None, lost=None, free=POOL, on=True) -> tuple[str | None, int]:
    """What `recheck` says, and how often the exam ran. lost: rows of a step with other bits."""
    passes = Passes(error)
    monkeypatch.setattr(certify, "Exam", lambda forward: passes)
    steps = SimpleNamespace(lost=lambda sizes: lost)
    monkeypatch.setattr(certify, "StepExam", lambda forward, shape: steps)
    pool = SimpleNamespace(available_size=lambda: free, size=POOL)
    shape = SimpleNamespace(step_sizes=frozenset())
    runner = SimpleNamespace(token_to_kv_pool_allocator=pool)
    config = Config(recheck=on)
    forward = SimpleNamespace(runner=runner, config=config, shape=shape, ranks=None)
    return certify.recheck(forward), passes.runs


@pytest.mark.parametrize(
    ("error", "lost", "told"),
    [
        (None, None, None),
        (CertificationError("assumption A2"), None, "assumption A2"),
        (RuntimeError("no kernel"), None, "RuntimeError: no kernel"),
        (None, 3, "A4, a step of 3 rows"),
    ],
)
def test_what_is_wrong_is_told(monkeypatch, error, lost, told):
    assert rechecked(monkeypatch, error, lost) == (told, 1)


def test_ranks_that_disagree_end_the_server(monkeypatch):
    with pytest.raises(RanksDisagreeError):
        rechecked(monkeypatch, RanksDisagreeError("rank 1"))


def test_nothing_is_run_over_kv_that_somebody_holds_or_if_it_is_off(monkeypatch):
    broken = RuntimeError("never run")
    assert rechecked(monkeypatch, broken, free=POOL - 1) == (None, 0)
    assert rechecked(monkeypatch, broken, on=False) == (None, 0)
