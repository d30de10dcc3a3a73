"""Receipts of a real server: what they bind, however the request was written, and signatures."""

import base64
import json
from hashlib import sha256
from pathlib import Path

import psutil
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from llm42_sglang.core.receipts import request_digest
from llm42_sglang.repro.proof import flaw_of
from llm42_sglang.repro.wire import receipt_in
from tests.engine import client
from tests.engine.conftest import llm42

GENERATE, CHAT = "/generate", "/v1/chat/completions"
COMPLETIONS, RESPONSES = "/v1/completions", "/v1/responses"
ASK = {"deterministic": True, "nonce": "once"}
MESSAGES = [{"role": "user", "content": "Name three colours."}]
BODIES = {
    GENERATE: {"text": "Hi", "sampling_params": {"max_new_tokens": 4} | ASK},
    CHAT: {"messages": MESSAGES, "max_tokens": 4} | ASK,
    COMPLETIONS: {"prompt": "Hi", "max_tokens": 4} | ASK,
    RESPONSES: {"input": "Hi", "max_output_tokens": 4} | ASK,
}


def exchanged(url: str, path: str, body: dict) -> tuple[dict, dict]:
    """The response and its receipt. Asserts that all its hashes hold."""
    response = client.post(url, body, path=path).require_ok().json()
    assert flaw_of(path, body, response) is None
    return response, dict(receipt_in(path, response))


@pytest.mark.server("tiny")
@pytest.mark.parametrize("path", BODIES)
def test_a_nonce_comes_back_and_changes_nothing_else(url, api, path):
    body = BODIES[path]
    if path == RESPONSES:  # which asks for the model by its name
        body = body | {"model": api.models.list().data[0].id}
    _, receipt = exchanged(url, path, body)
    assert receipt["nonce"] == "once"
    text = json.dumps(body)
    _, other = exchanged(url, path, json.loads(text.replace('"once"', '"again"')))
    assert other["nonce"] == "again"
    for name in ("request_digest", "output_digest", "seed", "sampling"):
        assert receipt[name] == other[name]
    assert receipt["receipt_digest"] != other["receipt_digest"]
    for wrong in ("7", f'"{"x" * 129}"'):
        answer = client.post(url, json.loads(text.replace('"once"', wrong)), path=path)
        assert answer.status == 400 and "nonce must be" in answer.text
    answer = client.post(url, json.loads(text.replace("true", "false")), path=path)
    assert answer.status == 400 and "has no receipt" in answer.text


@pytest.mark.server("tiny")
def test_a_nonce_where_nobody_reads_it_is_refused(url):
    answer = client.post(url, {"text": "Hi", "nonce": "once"})
    assert answer.status == 400 and "nonce belongs in sampling_params" in answer.text


@pytest.mark.server("tiny")
def test_template_and_defaults_are_in_the_digest_of_a_request_by_their_effect(url):
    """The same request as messages, and as ids with every parameter said."""
    body = {"messages": MESSAGES, "max_tokens": 8, "return_token_ids": True, "logprobs": True}
    response, receipt = exchanged(url, CHAT, body | ASK | {"temperature": 0.7, "seed": 3})
    ids = response["choices"][0]["prompt_token_ids"]
    assert len(ids) > 5
    assert receipt["request_digest"] == request_digest(ids, receipt["sampling"], 3)
    in_words = receipt["sampling"] | {"sampling_seed": 3} | ASK
    for name in ("logprobs", "grammar", "require_reasoning"):
        del in_words[name]
    said = {"input_ids": ids, "sampling_params": in_words, "return_logprob": True}
    native, told = exchanged(url, GENERATE, said)
    assert native["output_ids"] == response["choices"][0]["response_token_ids"]
    for name in ("request_digest", "output_digest"):
        assert told[name] == receipt[name]
    # The control: another default in force.
    _, other = exchanged(url, GENERATE, said | {"sampling_params": in_words | {"top_p": 0.5}})
    assert other["request_digest"] != receipt["request_digest"]


@pytest.mark.server("tiny")
@pytest.mark.parametrize("end", [{"max_new_tokens": 6}, {"stop": "e"}, {"regex": "ab|cd"}])
def test_whatever_ends_an_answer_its_hashes_hold(url, end):
    how = {"ignore_eos": False, "temperature": 0.9, "sampling_seed": 5, "max_new_tokens": 60}
    for ids in client.prompts()[:3]:
        body = client.body(ids, **how | end) | {"return_logprob": True}
        response, receipt = exchanged(url, GENERATE, body)
        forged = json.loads(json.dumps(response))
        forged["meta_info"]["finish_reason"]["type"] = "abort"
        assert "output_digest" in flaw_of(GENERATE, body, forged)
        assert receipt["sampling"]["logprobs"] is True


@pytest.mark.server("faulty")
def test_a_signature_is_checked_by_few_lines_and_the_key_is_in_no_other_process(
    url, servers, tmp_path, capsys
):
    told = client.get(url, "/llm42/fingerprint").json()
    raw = base64.b64decode(told["public_key"])
    body = client.body(client.prompts()[0]) | {"return_logprob": True}
    response, receipt = exchanged(url, GENERATE, body)
    assert receipt["key"] == told["key"] == sha256(raw).hexdigest()[:16]
    key, digest = Ed25519PublicKey.from_public_bytes(raw), receipt["receipt_digest"]
    key.verify(base64.b64decode(receipt["signature"]), bytes.fromhex(digest))
    with pytest.raises(InvalidSignature):
        key.verify(base64.b64decode(receipt["signature"]), bytes.fromhex(digest[::-1]))
    file = tmp_path / "signed.json"
    file.write_text(json.dumps({"request": body, "response": response}))
    assert llm42("replay", file, "--url", url, "--public-key", told["public_key"]) == 0
    receipt["verify_passes"] += 1
    response["meta_info"]["llm42"] = receipt
    file.write_text(json.dumps({"request": body, "response": response}))
    assert llm42("replay", file, "--url", url) == 1
    assert "NOT AUTHENTIC: the receipt has receipt_digest" in capsys.readouterr().out
    secret = (servers.folder / "signing.pem").read_text().splitlines()[1]
    assert secret not in servers.process.log_path.read_text(errors="replace")
    first = psutil.Process(servers.process.pid)
    for process in (first, *first.children(recursive=True)):
        assert secret not in Path(f"/proc/{process.pid}/environ").read_text(errors="replace")
