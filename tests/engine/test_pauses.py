"""Generation is paused, continued and aborted while deterministic requests are under way."""

import pytest

from tests.engine import client

LONG = 120  # tokens of output: enough to be in the middle of it


def requests() -> list[dict]:
    """Greedy and sampled ones, and one with a grammar; all with logprobs."""
    sampled = {"temperature": 0.9, "sampling_seed": 3}
    some = [{}, sampled, {"temperature": 0.7, "regex": "[a-z ]{120}"}]
    bodies = [
        client.body(ids, max_new_tokens=LONG, **how)
        for ids, how in zip(client.prompts()[3:9], [*some, *some], strict=True)
    ]
    return [body | {"return_logprob": True} for body in bodies]


def post(url: str, path: str, **body) -> int:
    return client.post(url, body, path).status


@pytest.fixture(scope="module")
def alone() -> list[client.Answer]:
    """The answers to `requests`, one by one, once a test has asked."""
    return []


@pytest.mark.server("tiny")
@pytest.mark.parametrize("mode", ["retract", "in_place"])
def test_after_a_pause_answers_go_on_with_the_same_bits(url, alone, mode):
    if not alone:
        alone += client.ask_all(url, requests(), in_flight=1)
    client.flush(url)
    answers = client.under_way(url, requests())
    assert post(url, "/pause_generation", mode=mode) == 200
    # In a pause in place the requests keep their KV, so SGLang does not flush.
    assert post(url, "/flush_cache") == (200 if mode == "retract" else 400)
    assert post(url, "/continue_generation") == 200
    assert client.bits_of(answers()) == client.bits_of(alone)
    assert all(answer.meta["llm42"]["verified"] for answer in answers())


@pytest.mark.server("tiny")
@pytest.mark.parametrize("how", ["/pause_generation", "/abort_request", "while retracted"])
def test_an_aborted_answer_has_a_receipt_of_what_was_delivered(url, alone, how):
    if not alone:
        alone += client.ask_all(url, requests(), in_flight=1)
    names = [f"abort-{i}" for i in range(len(alone))]
    named = [request | {"rid": rid} for request, rid in zip(requests(), names, strict=True)]
    answers = client.under_way(url, named)
    if how == "while retracted":
        assert post(url, "/pause_generation", mode="retract") == 200
        assert [post(url, "/abort_request", rid=name) for name in names] == [200] * len(names)
        answers()
        assert post(url, "/continue_generation") == 200
    elif how == "/abort_request":
        assert [post(url, how, rid=name) for name in names] == [200] * len(names)
    else:
        assert post(url, how, mode="abort") == 200
        assert post(url, "/continue_generation") == 200
    for answer, whole in zip(answers(), alone, strict=True):
        assert answer.meta["finish_reason"]["type"] == "abort"
        count = len(answer.ids)
        assert 0 < count < len(whole.ids) and answer.ids == whole.ids[:count]
        scored = answer.meta["output_token_logprobs"]
        assert scored == whole.meta["output_token_logprobs"][:count]
        receipt = answer.meta["llm42"]
        assert receipt["verified"] and [s["tokens"] for s in receipt["segments"]] == [count]
        assert receipt["output_digest"] != whole.meta["llm42"]["output_digest"]
