"""Steps stop being canonical: the audit ends deterministic service, and only that."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from llm42_sglang.repro.connection import Reply
from tests.engine import client

pytestmark = pytest.mark.server("drifting")

ROUNDS = 40


def ask(url: str, deterministic: bool, **options) -> Reply:
    how = {"max_new_tokens": 400 if "custom_params" in options else 80, **options}
    return client.post(url, client.body([5, 6, 7], deterministic, **how))


def test_a_failed_audit_ends_deterministic_service_and_nothing_else(url):
    assert ask(url, True, temperature=0.5, top_p=7).status == 400
    assert client.get(url, "/health").status_code == 200
    answers = []
    with ThreadPoolExecutor() as pool:
        while len(answers) < ROUNDS and (not answers or answers[-1].status == 200):
            # Beside some that look back at their tokens: the loop must not stumble over them later.
            beside = [pool.submit(ask, url, True, frequency_penalty=p) for p in (0.1, 0.5, 0.9)]
            # And beside a claim of several chunks, which may be between two of them at the end.
            claim = {"deterministic": True, "claim": [7] * 300}
            beside += [pool.submit(ask, url, True, custom_params=claim)]
            answers.append(ask(url, True))
            assert {one.result().status for one in beside} <= {200, 503}
    assert answers[0].json()["meta_info"]["llm42"]["verified"]
    failed = answers[-1]
    assert failed.status == 503 and "audit failed" in failed.text
    assert client.get(url, "/health").status_code == 503
    assert "audit failed" in ask(url, True).text
    assert "audit failed" in ask(url, True, frequency_penalty=0.5).text
    ordinary = ask(url, False)
    assert ordinary.status == 200 and "llm42" not in ordinary.json()["meta_info"]
    seen = client.metrics(url)
    assert seen["llm42_audit_failures_total"] == 1
    assert seen["llm42_refused_requests_total"] >= 2  # one by option, one after the audit
    assert seen["llm42_canonical_tokens_total"] > 32
