"""Servers that each show one thing: retraction, windows of attention, another weight."""

import pytest

from tests.engine import client, matrix
from tests.engine.conftest import llm42

SHORT = slice(1, 6)


@pytest.mark.server("retracting")
def test_retracted_requests_answer_as_ever(url):
    """SGLang takes a request's KV back in the middle of a page, every few steps while more than one
    request decodes, and starts it again."""
    alone = client.run(url, in_flight=1, only=SHORT)
    assert sum(answer.meta["num_retractions"] for answer in alone) == 0
    client.flush(url)
    crowded = client.run(url, in_flight=5, shuffle=5, only=SHORT)
    assert client.bits_of(crowded) == client.bits_of(alone)
    assert sum(answer.meta["num_retractions"] for answer in crowded) > 0
    assert all(answer.meta["llm42"]["verified"] for answer in crowded)
    assert client.total(crowded, "canonical_steps") > 0 < client.total(crowded, "rollbacks")


@pytest.mark.server("windows")
def test_windows_of_attention_in_one_kv_pool(url):
    matrix.run(url, perturbed=False)


@pytest.mark.server("other weights")
def test_one_changed_weight_is_named(url, golden, capsys):
    few = ("--only", "short", "--only", "chat", "--conditions", "alone")
    status = llm42("check", golden, "--url", url, *few)
    said = capsys.readouterr().out
    assert status == 1
    assert "fingerprint: weights changed" in said
    assert said.count("the answer changed with the fingerprint (weights changed)") == 2
    assert said.splitlines()[-1] == "UNKNOWN: 0 of 2 cases passed"
