"""What a request asks for is done, or refused with the reason, and nothing else ends."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.engine import client

pytestmark = pytest.mark.server("tiny")

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
BODIES = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4},
    COMPLETIONS: {"prompt": "Hi", "max_tokens": 4},
    RESPONSES: {"input": "Hi", "max_output_tokens": 4},
    "/generate": {"text": "Hi", "sampling_params": {"max_new_tokens": 4}},
}
WORD = {"deterministic": True}
A, B = "81", "82"  # the ids of these letters
# After "a" no token is left; "b" and "a" are equally likely.
DEAD_ENDS = {
    "regex": "(a|b[a-z]{20})",
    "min_tokens": 8,
    "logit_bias": {A: 60, B: 61.5},
    "temperature": 1,
    "max_tokens": 30,
}
LEFT_OUT = "no token is left to choose"


def refusal(url: str, body: dict, path: str) -> str:
    response = client.post(url, body, path=path)
    assert response.status == 400, response.text
    return response.text


@pytest.mark.parametrize("name", ["extra_body", "sampling_params", "metadata"])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, RESPONSES])
def test_the_word_where_nobody_reads_it(url, path, name):
    said = refusal(url, BODIES[path] | {name: WORD}, path)
    assert f"{name}.deterministic" in said and "the body itself" in said


@pytest.mark.parametrize("path", BODIES)
def test_the_word_in_the_query(url, path):
    assert "query" in refusal(url, BODIES[path], f"{path}?deterministic=true")


@pytest.mark.parametrize("value", ["yes", 1, [True]])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_a_value_that_is_not_boolean(url, path, value):
    assert "true or false" in refusal(url, BODIES[path] | {"deterministic": value}, path)


def test_the_word_in_a_schema_is_the_users(url):
    parameters = {"type": "object", "properties": {"deterministic": {"type": "boolean"}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    answer = client.post(url, BODIES[CHAT] | WORD | {"tools": tools}, path=CHAT)
    assert answer.json()["llm42"]["verified"], answer.text


@pytest.mark.parametrize("name", ["regex", "json_schema", "ebnf", "structural_tag"])
def test_an_empty_constraint_is_none(url, name):
    body = client.body(client.prompts()[0], **{name: ""})
    assert f"{name} is empty" in refusal(url, body, "/generate")


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("name", ["regex", "ebnf"])
def test_an_empty_constraint_is_none_for_openai_either(url, path, name):
    assert f"{name} is empty" in refusal(url, BODIES[path] | WORD | {name: ""}, path)


def test_the_receipt_names_what_was_drawn_with(url):
    asked = {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "min_p": 0.05}
    asked |= {"frequency_penalty": 0.5, "presence_penalty": 0.25, "repetition_penalty": 1.5}
    drawn = client.generate(url, client.prompts()[0], max_new_tokens=2, **asked)
    assert asked.items() <= drawn.meta["llm42"]["sampling"].items()
    greedy = client.generate(url, client.prompts()[0], max_new_tokens=2)
    told = greedy.meta["llm42"]["sampling"]
    assert told["temperature"] == 0 and told["top_p"] == 1 and told["repetition_penalty"] == 1


@pytest.mark.parametrize("deterministic", [True, False])
def test_an_abort_ends_its_request_and_no_namesake(url, deterministic):
    finished = _finish_reasons(url, ["job-1", "job-10", "job-1x"], "job-1", deterministic)
    assert finished == ["abort", "length", "length"]


def test_a_star_asks_for_all_who_begin_so(url):
    finished = _finish_reasons(url, ["run-1", "run-10", "other"], "run-1*", True)
    assert finished == ["abort", "abort", "length"]


def _finish_reasons(url: str, rids: list[str], aborted: str, deterministic: bool) -> list[str]:
    """Of one request per rid, after an abort while all of them run."""
    prompt = client.prompts()[0]
    requests = [
        client.body(prompt, deterministic, max_new_tokens=700) | {"rid": rid} for rid in rids
    ]
    with ThreadPoolExecutor(len(rids)) as pool:
        running = [pool.submit(client.post, url, request) for request in requests]
        time.sleep(0.5)
        assert client.post(url, {"rid": aborted}, path="/abort_request").status == 200
        return [one.result().json()["meta_info"]["finish_reason"]["type"] for one in running]


def _native(n: int) -> dict:
    names = {"min_tokens": "min_new_tokens", "max_tokens": "max_new_tokens"}
    sampling = {names.get(name, name): value for name, value in DEAD_ENDS.items()}
    return client.body(client.prompts()[0], **sampling, n=n, ignore_eos=False)


def test_a_sample_without_a_token_left_ends_alone(url):
    answers = json.loads(client.post(url, _native(6)).text)
    reasons = [answer["meta_info"]["finish_reason"] for answer in answers]
    left_out = [reason for reason in reasons if reason["type"] == "abort"]
    assert 0 < len(left_out) < 6
    for index, (answer, reason) in enumerate(zip(answers, reasons, strict=True)):
        if reason["type"] == "abort":
            assert reason["index"] == index and LEFT_OUT in reason["message"]
        else:
            assert len(answer["text"]) == 21 and answer["meta_info"]["llm42"]["verified"]
    alone = [client.post(url, _seeded(42 + index)) for index in range(6)]
    ends = [reason["type"] == "abort" for reason in reasons]
    assert [one.status == 400 for one in alone] == ends  # the samples are these requests


def _seeded(seed: int) -> dict:
    request = _native(1)
    request["sampling_params"]["sampling_seed"] = seed
    return request


def test_if_all_samples_are_left_out_it_is_a_400(url):
    request = _native(3)
    request["sampling_params"]["regex"] = "a"
    assert LEFT_OUT in refusal(url, request, "/generate")


def test_a_prompt_without_a_token_left_ends_alone(url):
    prompts = [[*client.prompts()[0]], [*client.prompts()[1]]]
    sampling = [_native(1)["sampling_params"] | {"regex": regex} for regex in ("a", "b[a-z]{20}")]
    request = {"input_ids": prompts, "sampling_params": sampling}
    left_out, whole = json.loads(client.post(url, request).text)
    assert LEFT_OUT in left_out["meta_info"]["finish_reason"]["message"]
    assert whole["meta_info"]["llm42"]["verified"] and len(whole["text"]) == 21


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_a_choice_without_a_token_left_ends_alone(url, path):
    body = BODIES[path] | DEAD_ENDS | WORD | {"n": 12, "seed": 5}
    answer = client.post(url, body, path=path).json()
    aborted = [one["index"] for one in answer["choices"] if one["finish_reason"] == "abort"]
    assert 0 < len(aborted) < 12
    assert [error["index"] for error in answer["errors"]] == aborted
    assert all(LEFT_OUT in error["message"] and error["code"] == 400 for error in answer["errors"])
    assert [i for i, receipt in enumerate(answer["llm42"]) if receipt is None] == aborted
    streamed, errors = _streamed(url, body, path)
    assert sorted(error["index"] for error in errors) == aborted
    assert streamed == [_text(one) for one in answer["choices"]]


def _streamed(url: str, body: dict, path: str) -> tuple[list[str], list[dict]]:
    """Texts by index, and the errors of a stream."""
    texts, errors = [""] * body["n"], []
    reply = client.post(url, body | {"stream": True}, path=path)
    for event in reply.events:
        errors += event.data.get("errors", [])
        for choice in event.data["choices"]:
            texts[choice["index"]] += _text(choice)
    return texts, errors


def _text(choice: dict) -> str:
    if "text" in choice:
        return choice["text"]
    return (choice.get("message") or choice["delta"]).get("content") or ""
