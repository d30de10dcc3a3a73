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


def test_what_happened_is_what_is_counted(registry):
    metrics, refusals = LaneMetrics(LABELS), RefusalMetrics()
    metrics.passed(width=8, pages=5)
    metrics.passed(width=2, pages=2)
    metrics.stepped()
    metrics.prefilled(3)
    metrics.verified(waited=4, judged=31, committed=20, dropped=12)
    metrics.verified(waited=0, judged=31, committed=32, dropped=0)
    metrics.drafted(12, accepted=5)
    metrics.drafted(0, accepted=0)
    for equal in (True, False):
        metrics.audited(equal)
    for status in (400, 503, 400):
        refusals.refused(status)
    expected = {
        "passes_total": 2,
        "empty_slots_total": 3,
        "canonical_tokens_total": 1,
        "candidates_total": 62,
        "committed_tokens_total": 52,
        "rolled_back_tokens_total": 12,
        "rollbacks_total": 1,
        "drafted_tokens_total": 12,
        "accepted_tokens_total": 5,
        "wait_steps_sum": 4,
        "audit_failures_total": 1,
    }
    got = {name: registry.get_sample_value(f"llm42_{name}", LABELS) for name in expected}
    assert got == expected
    for kind, pages in {"prefill": 3, "verify": 2, "audit": 2}.items():
        assert registry.get_sample_value("llm42_pages_total", LABELS | {"kind": kind}) == pages
    for status, count in {"400": 2, "503": 1}.items():
        label = {"status": status}
        assert registry.get_sample_value("llm42_refused_requests_total", label) == count


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
    page = (DOCS / "operations.md").read_text().partition("## Metrics")[2].partition("\n## ")[0]
    told = set(NAME.findall(page))
    assert asked <= there and told <= there
    totals = {name for name in there if name.endswith("_total")}
    assert totals <= asked and totals <= told
