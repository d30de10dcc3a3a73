"""Determinism follows the weights of a running server: fingerprint, pages, requests under way."""

import json
from pathlib import Path

import pytest

from llm42_sglang.core.receipts import output_digest, receipt_digest
from tests.engine import client, tiny_models
from tests.engine.conftest import llm42
from tests.engine.weights import fingerprint

LONG = 160  # tokens of output: enough to be in the middle of it
SLOW = 80  # the same, where two ranks or replicas share the cores


def control(url: str, path: str, **body) -> None:
    assert client.post(url, body, path).status == 200


@pytest.mark.server("other weights")
def test_the_fingerprint_and_the_answers_follow_the_weights_and_come_back(weights):
    url, prompt = weights.url, client.prompts()[6]
    requests = [client.body(ids) | {"return_logprob": True} for ids in client.prompts()[2:7]]
    first = weights.update(weights.plain)
    before = client.ask_all(url, requests, 5)
    warm = client.generate(url, prompt)
    assert warm.meta["cached_tokens"] > 0

    second = weights.update(weights.changed, weight_version="step-1")
    assert second != first
    shown = client.get(url, "/llm42/fingerprint").json()
    assert shown["facts"]["weight_version"] == "step-1"
    other = client.ask_all(url, requests, 5)
    assert [answer.meta["cached_tokens"] for answer in other] == [0] * 5
    assert {answer.meta["llm42"]["fingerprint"] for answer in other} == {second}
    assert client.ids_of(other) != client.ids_of(before)
    chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}
    answer = client.post(url, {"model": "m", **chat}, "/v1/chat/completions").json()
    assert answer["system_fingerprint"] == answer["llm42"]["fingerprint"] == second

    assert weights.update(weights.plain, weight_version="step-2") == first
    again = client.ask_all(url, requests, 5)
    assert [answer.meta["cached_tokens"] for answer in again] == [0] * 5
    assert client.bits_of(again) == client.bits_of(before)


def on(server: str, *how) -> object:
    return pytest.param(*how, marks=pytest.mark.server(server))


@pytest.mark.parametrize(
    ("mode", "count", "replayed", "length"),
    [
        on("other weights", "retract", 1, 1, 4 * LONG),  # alone it is the fastest
        on("other weights", "in_place", 12, 2, LONG),
        on("two nodes", "in_place", 4, 1, SLOW),
        on("two replicas", "retract", 4, 1, SLOW),
    ],
)
def test_requests_under_way_go_on_and_each_segment_can_be_replayed(
    weights, tmp_path, capsys, mode, count, replayed, length
):
    url = weights.url
    first = weights.update(weights.plain)
    sampled = {"temperature": 0.9, "sampling_seed": 5}
    requests = [
        client.body(ids, max_new_tokens=length, **(sampled if i % 2 else {}))
        | {"return_logprob": True}
        for i, ids in enumerate((client.prompts()[2:8] * 2)[:count])
    ]
    answers_of = client.under_way(url, requests)
    control(url, "/pause_generation", mode=mode)
    second = weights.update(weights.changed)
    control(url, "/continue_generation")
    answers = answers_of()

    for answer in answers:
        receipt = answer.meta["llm42"]
        assert receipt["verified"] and receipt["fingerprint"] == second
        assert [segment["fingerprint"] for segment in receipt["segments"]] == [first, second]
        assert sum(segment["tokens"] for segment in receipt["segments"]) == length
        assert len(answer.ids) == len(answer.meta["output_token_logprobs"]) == length
    saved = [save(tmp_path / f"{i}.json", requests[i], answers[i]) for i in range(replayed)]
    assert replay(saved[0], url, None, capsys).startswith("UNKNOWN: weights were updated")
    assert replay(saved[0], url, 1, capsys).startswith("UNKNOWN: segment 1 was made under")
    for path in saved:
        assert replay(path, url, 2, capsys).startswith("AUTHENTIC")
    weights.update(weights.plain)
    for path in saved:
        assert replay(path, url, 1, capsys).startswith("AUTHENTIC")
    # The controls: a logprob of the file is another one, then a token; the hashes are made to fit.
    forged = json.loads(saved[0].read_text())
    scored = forged["response"]["meta_info"]["output_token_logprobs"]
    scored[0][0] -= 1
    saved[0].write_text(json.dumps(with_hashes(forged)))
    assert replay(saved[0], url, 1, capsys).startswith("NOT AUTHENTIC: the logprobs of segment 1")
    forged["response"]["output_ids"][0] += 1
    scored[0][1] += 1
    saved[0].write_text(json.dumps(with_hashes(forged)))
    assert replay(saved[0], url, 1, capsys).startswith("NOT AUTHENTIC: in segment 1, token 0")


def with_hashes(exchange: dict) -> dict:
    """An exchange whose receipt has the hashes of its answer, which has ended by length."""
    response, receipt = exchange["response"], exchange["response"]["meta_info"]["llm42"]
    values = [value for value, *_ in response["meta_info"]["output_token_logprobs"]]
    receipt["output_digest"] = output_digest(response["output_ids"], "length", None, values)
    receipt["receipt_digest"] = receipt_digest(receipt)
    return exchange


def save(path: Path, request: dict, answer: client.Answer) -> Path:
    response = {"text": answer.text, "output_ids": answer.ids, "meta_info": answer.meta}
    path.write_text(json.dumps({"request": request, "response": response}))
    return path


def replay(path: Path, url: str, segment: int | None, capsys) -> str:
    llm42("replay", path, "--url", url, *(("--segment", segment) if segment else ()))
    return capsys.readouterr().out


@pytest.mark.server("other weights")
def test_requests_that_an_update_aborts_have_receipts_of_what_was_delivered(weights):
    first = weights.update(weights.plain)
    request = client.body(client.prompts()[4], max_new_tokens=LONG) | {"return_logprob": True}
    answers_of = client.under_way(weights.url, [request] * 3)
    assert weights.update(weights.changed, abort_all_requests=True) != first
    answers = answers_of()
    for answer in answers:
        assert answer.meta["finish_reason"]["type"] == "abort"
        assert 0 < len(answer.ids) < LONG
        assert len(answer.meta["output_token_logprobs"]) == len(answer.ids)
        (segment,) = answer.meta["llm42"]["segments"]
        assert segment == {"fingerprint": first, "tokens": len(answer.ids)}
    whole = client.generate(weights.url, client.prompts()[4])
    assert whole.ids[:20] != answers[0].ids[:20]
    weights.update(weights.plain)
    again = client.ask(weights.url, request)
    assert again.ids[: len(answers[0].ids)] == answers[0].ids


@pytest.mark.server("windows")
def test_weights_that_are_known_by_their_version(url, servers, tmp_path):
    """Nothing is hashed, so an update must name another version, and a load that has written
    nothing is told from one that may have."""
    own, request = tiny_models.make("gemma3", servers.folder), client.body(client.prompts()[3])
    other = tiny_models.make("gemma3, one weight changed", servers.folder)

    def load(path: Path, **version) -> str | None:
        """The refusal of an update from disk, None if it succeeds."""
        body = {"model_path": str(path), **version}
        answer = client.post(url, body, "/update_weights_from_disk").json()
        return None if answer["success"] else answer["message"]

    first, before = fingerprint(url), client.ask(url, request)
    for version in ({}, {"weight_version": ""}, {"weight_version": "default"}):
        assert "must name a weight_version" in load(other, **version)
    assert "iterator" in load(tmp_path / "none", weight_version="step-1")
    assert fingerprint(url) == first and client.ask(url, request).ids == before.ids

    assert load(other, weight_version="step-1") is None
    assert fingerprint(url) != first
    assert client.get(url, "/llm42/fingerprint").json()["facts"]["weights"] == "version:step-1"
    changed = client.ask(url, request)
    assert changed.ids != before.ids and changed.meta["cached_tokens"] == 0

    assert load(own, weight_version="default") is None
    assert fingerprint(url) == first and client.ask(url, request).ids == before.ids
