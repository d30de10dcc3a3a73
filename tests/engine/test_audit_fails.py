"""Passes stop being repeatable: the audit ends deterministic service, and only that."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.engine import client
from tests.engine.conftest import Server

pytestmark = pytest.mark.server

ROUNDS = 40
DRIFTING = Server(
    (
        *("--max-total-tokens", "8192", "--llm42-page", "16", "--llm42-group", "2"),
        *("--enable-metrics", "--max-running-requests", "4"),
    ),
    (("LLM42_FAULT", "drift"),),
)


def ask(url: str, deterministic: bool, **options) -> httpx.Response:
    params = {"temperature": 0, "max_new_tokens": 80, "ignore_eos": True, **options}
    params["custom_params"] = {"deterministic": deterministic}
    body = {"text": "The moon is", "sampling_params": params}
    return httpx.post(f"{url}/generate", json=body, timeout=600, trust_env=False)


def test_a_failed_audit_ends_deterministic_service_and_nothing_else(servers):
    url = servers.url(DRIFTING)
    assert ask(url, True, temperature=0.5, top_p=7).status_code == 400
    assert httpx.get(f"{url}/health", timeout=60, trust_env=False).status_code == 200
    answers = []
    with ThreadPoolExecutor() as pool:
        while len(answers) < ROUNDS and (not answers or answers[-1].status_code == 200):
            # Beside some that look back at their tokens: the loop must not stumble over them later.
            beside = [pool.submit(ask, url, True, frequency_penalty=p) for p in (0.1, 0.5, 0.9)]
            answers.append(ask(url, True))
            assert {one.result().status_code for one in beside} <= {200, 503}
    assert answers[0].json()["meta_info"]["llm42"]["verified"]
    failed = answers[-1]
    assert not failed.json().get("meta_info", {}).get("llm42", {}).get("verified", False)
    assert failed.status_code == 503 and "audit failed" in failed.text
    assert httpx.get(f"{url}/health", timeout=60, trust_env=False).status_code == 503
    assert "audit failed" in ask(url, True).text
    assert "audit failed" in ask(url, True, frequency_penalty=0.5).text
    ordinary = ask(url, False)
    assert ordinary.status_code == 200 and "llm42" not in ordinary.json()["meta_info"]
    seen = client.metrics(url)
    assert seen["llm42_audit_failures_total"] == 1
    assert seen["llm42_refused_requests_total"] >= 2  # one by option, one after the audit
    assert seen["llm42_passes_total"] > 32
    assert (
        seen.get("llm42_carrying_steps_total", 0) == 0
    )  # no ordinary request would wait for a pass
    assert seen["llm42_committed_tokens_total"] > 0
    served = sum(len(a.json()["output_ids"]) for a in answers[:-1])  # of every fourth request
    # Each first token was born in a prefill pass. The last request committed a part of its own.
    assert seen["llm42_committed_tokens_total"] >= served - len(answers)
    assert seen["llm42_wait_steps_count"] > 32
