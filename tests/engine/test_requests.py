"""Single requests: finishing, streaming, receipts, refusals."""

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from llm42_sglang.core.receipts import output_digest, request_digest
from tests.engine import client, hostile
from tests.fire.attacks import FIELDS, GENERATE, put

pytestmark = pytest.mark.server("tiny")

LONG = -1  # index of the longest prompt
# They pass the checks of the front process, and no grammar comes of them in the scheduler's.
NO_GRAMMAR = [{"json_schema": "{"}, {"ebnf": "root ::="}]
# Null says something there: no limit; no prompt; nothing of determinism.
SAID_BY_NULL = {"sampling_params.max_new_tokens", "input_ids"} | {
    "sampling_params",
    "sampling_params.custom_params",
}
NO_WORD = {"custom_params": None}  # the server's default holds: --llm42-default


def test_every_answer_is_verified_and_complete(reference):
    assert all(answer.meta["llm42"]["verified"] for answer in reference)
    assert {len(answer.ids) for answer in reference} == {client.NEW_TOKENS}
    assert len({answer.meta["llm42"]["fingerprint"] for answer in reference}) == 1
    assert len({answer.meta["llm42"]["output_digest"] for answer in reference}) == len(reference)


@pytest.mark.parametrize(("in_flight", "streams"), [(4, 1), (10, 3)])
def test_load_and_cache_do_not_show(url, reference, in_flight, streams):
    """Beside ordinary traffic on an empty cache, then on the warm one."""
    client.flush(url)
    with client.ordinary_traffic(url, streams):
        assert client.bits_of(client.run(url, in_flight, shuffle=1)) == client.bits_of(reference)
    warm = client.run(url, in_flight, shuffle=2)
    assert client.bits_of(warm) == client.bits_of(reference)
    assert sum(answer.meta["cached_tokens"] for answer in warm) > 0


def test_receipt_covers_prompt_and_output(url, reference):
    for prompt, answer in zip(client.prompts(), reference, strict=True):
        logprobs = [value for value, *_ in answer.meta["output_token_logprobs"]]
        receipt = answer.meta["llm42"]
        assert receipt["output_digest"] == output_digest(answer.ids, "length", None, logprobs)
        assert receipt["request_digest"] == request_digest(prompt, receipt["sampling"], None)


@pytest.mark.parametrize("max_new_tokens", [0, 1, 2, 15, 16, 17])
def test_length_limit_cuts_the_same_text(url, reference, max_new_tokens):
    answer = client.generate(url, client.prompts()[4], max_new_tokens=max_new_tokens)
    assert answer.ids == reference[4].ids[:max_new_tokens]
    assert answer.meta["finish_reason"] == {"type": "length", "length": max_new_tokens}


def test_stop_token_ends_the_answer_where_it_first_appears(url, reference):
    """A stop token in the middle of a verified run: nothing after it is released."""
    for i in (0, 4, 7):
        expected = reference[i].ids
        stop = expected[30]
        answer = client.generate(url, client.prompts()[i], ignore_eos=False, stop_token_ids=[stop])
        end = next(k for k, token in enumerate(expected) if token in (stop, 0, 2)) + 1
        assert answer.ids == expected[:end]
        assert answer.meta["finish_reason"]["type"] == "stop"


def test_stream_carries_committed_tokens_only(url, reference):
    """Every chunk extends the last one, and all are prefixes of the verified answer."""
    chunks = list(client.stream(url, client.body(client.prompts()[5])))
    outputs = [tuple(chunk["output_ids"]) for chunk in chunks]
    assert len(outputs) > 1
    assert all(reference[5].ids[: len(output)] == output for output in outputs)
    assert [len(output) for output in outputs] == sorted({len(output) for output in outputs})
    assert outputs[-1] == reference[5].ids
    assert chunks[-1]["meta_info"]["llm42"]["verified"] is True


def test_disconnects_and_aborts_leave_the_others_alone(url, reference):
    """Random clients leave in the middle; the rest answers as ever and no KV slot is lost."""
    dice = random.Random(3)
    with client.ordinary_traffic(url, streams=2), ThreadPoolExecutor(6) as pool:
        leavers = [
            pool.submit(_leave_after, url, dice.choice(client.prompts()), chunks)
            for chunks in (1, 1, 2, 2, 3)
        ]
        aborted = pool.submit(_abort_some, url)
        answers = client.run(url, in_flight=6, shuffle=4)
        for leaver in leavers:
            leaver.result()
    assert client.bits_of(answers) == client.bits_of(reference)
    reasons = [answer["meta_info"]["finish_reason"]["type"] for answer in aborted.result()]
    assert "abort" in reasons  # it was not all over before
    client.flush(url)  # succeeds only when nothing is left running


@pytest.mark.parametrize(
    ("name", "sampling", "fields"),
    [
        ("beam_width", {"beam_width": 2}, {}),
        ("return_entropy", {}, {"return_entropy": True}),
        ("custom_logit_processor", {}, {"custom_logit_processor": "{}"}),
        ("session_params", {}, {"session_params": {"id": "mine"}}),
        ("lora_path", {}, {"lora_path": "mine"}),
        ("return_hidden_states", {}, {"return_hidden_states": True}),
        ("return_hidden_states", NO_WORD, {"return_hidden_states": True}),
        ("extra_key", {}, {"extra_key": "llm42:mine"}),
        # Nobody can plant pages where deterministic requests look for theirs.
        ("extra_key", {"custom_params": {"deterministic": False}}, {"extra_key": "llm42:mine"}),
        ("deterministic", {"custom_params": {"deterministic": "yes"}}, {}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_refused_by_name(url, name, sampling, fields, stream):
    request = client.body(client.prompts()[0], **sampling) | fields | {"stream": stream}
    response = client.post(url, request)
    assert response.status == 400, response.text
    assert name in response.json()["error"]["message"]


@pytest.mark.parametrize("length", [129, 144, 257])
def test_a_prompt_little_longer_than_its_chunks_is_scored_whole(url, length):
    """After a chunk, all rows but the last one may be canonical: the request is not born yet."""
    prompt = client.prompts()[LONG][-length:][::-1]  # not in the prefix cache
    request = client.body(prompt, max_new_tokens=0)
    scored = client.ask(url, request | {"return_logprob": True, "logprob_start_len": 0})
    assert len(scored.meta["input_token_logprobs"]) == length


def test_beside_an_ordinary_grammar(url):
    """With one in the batch and overlap, SGLang samples a step after it has decoded it."""
    looks = ({}, {"frequency_penalty": 0.5}, {"regex": "[a-z ]{10,80}"})
    requests = [
        client.body(prompt, max_new_tokens=36, temperature=0.9, sampling_seed=5, **sampling)
        for prompt, sampling in zip(client.prompts()[3:], looks, strict=False)
    ]
    alone = client.ask_all(url, requests, in_flight=1)
    ordinary = client.body(client.prompts()[5], False, regex="[a-z ]{900}", max_new_tokens=90)
    with ThreadPoolExecutor(1) as pool:
        grammar = pool.submit(client.ask, url, ordinary)
        beside = client.ask_all(url, requests, in_flight=3)
        assert len(grammar.result().ids) == 90
    assert client.ids_of(beside) == client.ids_of(alone)
    assert client.total(beside, "rollbacks") <= 2 * len(requests)  # the draws use the same noise


EMPTY = {  # options that leave no token to choose, at once or after some tokens
    "grammar done": {"regex": "(ab)", "min_new_tokens": 8},
    "at birth": {"regex": "(a)", "logit_bias": {"81": -1e39}},
    "at a page's end": {"regex": "[a-z]{28}", "min_new_tokens": 40},
}


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("scored", [False, True])
def test_options_that_leave_no_token_are_a_400(url, name, scored):
    sampling = {"max_new_tokens": 50, "ignore_eos": False} | EMPTY[name]
    request = client.body(client.prompts()[1], **sampling) | {"return_logprob": scored}
    response = client.post(url, request | {"return_text_in_logprobs": True})
    assert response.status == 400, response.text
    assert "min_new_tokens" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ({"input_ids": [5, 49152]}, "input_ids"),
        ({"input_ids": [5], "deterministic": True}, "deterministic"),
        ({"input_ids": [5], "custom_params": {"deterministic": True}}, "custom_params"),
        ({"input_ids": [5], "sampling_params": {"custom_params": {"a": [[1]]}}}, "custom_params"),
    ],
)
def test_malformed_requests_are_a_400_and_the_server_lives(url, request_, named):
    response = client.post(url, request_)
    assert response.status == 400, response.text
    assert named in response.text


def test_the_native_field_needs_no_patch(url, reference):
    request = client.body(client.prompts()[0], None, max_new_tokens=8)
    for wanted in (True, False):
        request["sampling_params"]["deterministic"] = wanted
        assert ("llm42" in client.ask(url, request).meta) == wanted


def test_an_endpoint_that_does_not_know_the_field_refuses_it(url):
    message = {"role": "user", "content": "Hi"}
    body = {"model": "default", "max_tokens": 4, "messages": [message], "deterministic": True}
    response = client.post(url, body, path="/v1/messages")
    assert response.status == 400 and "deterministic" in response.text


def test_ordinary_requests_keep_every_feature(url):
    """What is refused beside `deterministic` is served without it."""
    request = client.body(
        client.prompts()[0], deterministic=False, temperature=0.7, n=2, max_new_tokens=4
    )
    response = client.post(url, request | {"return_logprob": True})
    assert response.status == 200, response.text
    assert len(json.loads(response.text)) == 2


@pytest.mark.parametrize("sampling", NO_GRAMMAR)
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_stream_whose_grammar_does_not_compile_has_no_token(url, sampling, deterministic):
    (event,) = _events(url, client.body(client.prompts()[0], deterministic, **sampling))
    assert event["meta_info"]["finish_reason"]["type"] == "abort"
    assert "llm42" not in event["meta_info"]
    # SGLang's own request, the negative control, has the token that follows a placeholder.
    tokens = 0 if deterministic else 1
    assert len(event["output_ids"]) == event["meta_info"]["completion_tokens"] == tokens
    assert bool(event["text"]) is not deterministic


@pytest.mark.parametrize("stream", [True, False])
def test_null_says_nothing_or_is_refused_by_name(url, stream):
    fields = {*FIELDS[GENERATE], *(f"sampling_params.{name}" for name in hostile.SAMPLING)}
    request = client.body(client.prompts()[0], max_new_tokens=4) | {"stream": stream}
    served = set()
    for field in sorted(fields - SAID_BY_NULL):
        reply = client.connection(url).client.post(GENERATE, json=put(request, field, None))
        if reply.status_code == 400:
            assert field.rpartition(".")[2] in reply.text
            continue
        last = _events_in(reply.text)[-1] if stream else reply.json()
        assert last["meta_info"]["llm42"]["verified"] is True and last["output_ids"], field
        served.add(field)
    assert "sampling_params.n" in served and len(served) > 30


def _events(url: str, request: dict) -> list[dict]:
    reply = client.connection(url).client.post(GENERATE, json=request | {"stream": True})
    assert reply.status_code == 200, reply.text
    return _events_in(reply.text)


def _events_in(text: str) -> list[dict]:
    """The events of a stream, which must have an end."""
    *lines, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def _leave_after(url: str, prompt, chunks: int) -> None:
    for count, _ in enumerate(client.stream(url, client.body(prompt)), start=1):
        if count == chunks:
            return


def _abort_some(url: str) -> list[dict]:
    """Abort requests by id while they run, in the middle of a page as a rule; what they got."""
    got = []
    for i in range(3):
        request = client.body(client.prompts()[LONG], max_new_tokens=1500) | {
            "rid": f"abort-me-{i}"
        }
        with ThreadPoolExecutor(1) as pool:
            response = pool.submit(client.post, url, request)
            time.sleep(1)
            client.post(url, {"rid": request["rid"]}, path="/abort_request")
            got.append(response.result().json())
    return got
