"""The lane's metrics, and that page and dashboard name the ones there are. No server."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from llm42_sglang.engine.metrics import LaneMetrics, RefusalMetrics

DOCS = Path(__file__).parents[2] / "docs"
LABELS = {"model_name": "m", "tp_rank": "0"}
NAME = re.compile(r"\bllm42_[a-z_]+")


@pytest.fixture
def registry(monkeypatch):
    made = CollectorRegistry()
    monkeypatch.setattr("prometheus_client.CollectorRegistry", lambda: made)
    return made


def value(registry, name: str, **labels) -> float | None:
    return registry.get_sample_value(name, labels)


def test_what_happened_is_what_is_counted(registry):
    metrics = LaneMetrics(LABELS)
    metrics.passed(width=8, pages=5)
    metrics.passed(width=2, pages=2)
    metrics.carried()
    metrics.prefilled(3)
    metrics.verified(waited=4, judged=31, committed=20, dropped=12)
    metrics.verified(waited=0, judged=31, committed=32, dropped=0)
    metrics.audited(equal=True)
    assert value(registry, "llm42_passes_total", **LABELS) == 2
    assert value(registry, "llm42_empty_slots_total", **LABELS) == 3
    assert value(registry, "llm42_carrying_steps_total", **LABELS) == 1
    pages = {
        kind: value(registry, "llm42_pages_total", **LABELS, kind=kind)
        for kind in ("prefill", "verify", "audit")
    }
    assert pages == {"prefill": 3, "verify": 2, "audit": 1}
    assert value(registry, "llm42_candidates_total", **LABELS) == 62
    assert value(registry, "llm42_committed_tokens_total", **LABELS) == 52
    assert value(registry, "llm42_rolled_back_tokens_total", **LABELS) == 12
    assert value(registry, "llm42_rollbacks_total", **LABELS) == 1
    assert value(registry, "llm42_wait_steps_sum", **LABELS) == 4
    assert value(registry, "llm42_audit_failures_total", **LABELS) == 0
    metrics.audited(equal=False)
    assert value(registry, "llm42_audit_failures_total", **LABELS) == 1


def test_refusals_are_counted_by_status(registry):
    metrics = RefusalMetrics()
    for status in (400, 503, 400):
        metrics.refused(status)
    assert value(registry, "llm42_refused_requests_total", status="400") == 2
    assert value(registry, "llm42_refused_requests_total", status="503") == 1


def test_page_and_dashboard_name_the_metrics_there_are(registry):
    LaneMetrics(LABELS)
    RefusalMetrics().refused(400)
    names = set(NAME.findall(generate_latest(registry).decode()))
    there = {name for name in names if not name.endswith("_created")}
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in NAME.findall(target["expr"])
    }
    told = set(NAME.findall((DOCS / "operations.md").read_text()))
    assert asked <= there and told <= there
    totals = {name for name in there if name.endswith("_total")}
    assert totals <= asked and totals <= told
