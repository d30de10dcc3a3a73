"""The fingerprint's facts, as clients get them."""

import json

from llm42_sglang.core.receipts import fingerprint
from llm42_sglang.frontend.facts import facts_response

CERTIFICATE = {"widths": (1, 8), "replayed": (), "seconds": 2.5}
FACTS = {"page": 32, "weights": "ab" * 32, "model": {"rms_norm_eps": 1e-05, "tokenizer": None}}


def test_a_client_can_hash_the_facts_itself():
    proof = {"fingerprint": fingerprint(FACTS), "facts": FACTS, "certificate": CERTIFICATE}
    response = facts_response(proof, problem=None)
    body = json.loads(response.body)
    assert response.status_code == 200
    assert body["facts"] == FACTS
    assert fingerprint(body["facts"]) == body["fingerprint"]
    assert body["certificate"] == CERTIFICATE | {"widths": [1, 8], "replayed": []}


def test_a_problem_is_no_fingerprint():
    response = facts_response({}, problem="the hooks are not live")
    assert response.status_code == 503
    assert "the hooks are not live" in json.loads(response.body)["error"]["message"]
