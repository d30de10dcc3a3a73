"""The OpenAI endpoints of a real server, asked by the real `openai` client."""

import time

import openai
import pytest

from tests.engine import client

pytestmark = pytest.mark.server("tiny")

TOKENS = 24
ON = {"custom_params": {"deterministic": True}}
QUESTION = "Name three colours."


def complete(api, prompt=None, extra_body=ON, **options):
    prompt = prompt or list(client.prompts()[4])
    extra = {"ignore_eos": True, "return_token_ids": True} | extra_body
    options = {"model": "default", "temperature": 0, "max_tokens": TOKENS} | options
    return api.completions.create(prompt=prompt, extra_body=extra, **options)


def chat(api, **options):
    message = {"role": "user", "content": QUESTION}
    options = {"model": "default", "temperature": 0, "max_tokens": TOKENS} | options
    return api.chat.completions.create(messages=[message], **{"extra_body": ON} | options)


def respond(api, **options):
    options = {"temperature": 0, "max_output_tokens": TOKENS + 2} | options  # SGLang takes 2 off
    return api.responses.create(
        model=api.models.list().data[0].id, input=QUESTION, **{"extra_body": ON} | options
    )


ENDPOINTS = (complete, chat, respond)


def receipt_of(parts) -> dict:
    """The one receipt in a stream."""
    (receipt,) = [part.llm42 for part in parts if hasattr(part, "llm42")]
    return receipt


def test_completions_give_the_reference(api, url, reference):
    expected, receipt = reference[4].ids[:TOKENS], reference[4].meta["llm42"]
    whole = complete(api)
    with client.ordinary_traffic(url, streams=2):
        chunks = list(complete(api, stream=True, stream_options={"include_usage": True}))
    streamed = [token for chunk in chunks for c in chunk.choices for token in c.token_ids]
    assert tuple(whole.choices[0].token_ids) == tuple(streamed) == expected
    assert whole.choices[0].text == "".join(c.text for chunk in chunks for c in chunk.choices)
    assert whole.usage.completion_tokens == chunks[-1].usage.completion_tokens == TOKENS
    assert whole.usage.prompt_tokens == len(client.prompts()[4])
    assert {chunk.system_fingerprint for chunk in chunks} == {receipt["fingerprint"]}
    assert whole.system_fingerprint == receipt["fingerprint"]
    assert whole.llm42["verified"] is True
    assert whole.llm42["output_digest"] == receipt_of(chunks)["output_digest"]


def test_a_batch_of_prompts_has_a_receipt_each(api, reference):
    prompts = [list(prompt) for prompt in client.prompts()[:2]]
    answer = complete(api, prompts, max_tokens=4)
    ids = [tuple(choice.token_ids) for choice in answer.choices]
    assert ids == [reference[i].ids[:4] for i in range(2)]
    alone = [complete(api, prompt, max_tokens=4).llm42["output_digest"] for prompt in prompts]
    assert [receipt["output_digest"] for receipt in answer.llm42] == alone
    chunks = complete(api, prompts, max_tokens=4, stream=True)
    last = {c.choices[0].index: c.llm42["output_digest"] for c in chunks if hasattr(c, "llm42")}
    assert last == dict(enumerate(alone))


def test_chat_and_responses_agree_in_every_way_of_asking(api, url):
    whole = chat(api)
    with client.ordinary_traffic(url, streams=2):
        options = {"include_usage": True, "continuous_usage_stats": True}
        chunks = list(chat(api, stream=True, stream_options=options))
        response = respond(api)
        events = list(respond(api, stream=True))
    text = whole.choices[0].message.content
    deltas = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(deltas) == text == response.output_text
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == text

    last = events[-1].response
    counts = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert counts == sorted(counts)
    assert counts[-1] == whole.usage.completion_tokens <= TOKENS
    assert response.usage.output_tokens == last.usage.output_tokens == counts[-1]

    receipts = [whole.llm42, receipt_of(chunks), response.llm42, last.llm42]
    assert all(receipt["verified"] for receipt in receipts)
    assert len({receipt["output_digest"] for receipt in receipts}) == 1
    stamped = [whole, *chunks, response, events[0].response, last]
    assert {part.system_fingerprint for part in stamped} == {whole.llm42["fingerprint"]}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ask", ENDPOINTS)
@pytest.mark.parametrize(
    ("extra_body", "named"),
    [
        ({"deterministic": "yes"}, "deterministic"),
        ({"custom_params": {"deterministic": 1}}, "deterministic"),
        (ON | {"extra_key": "llm42:mine"}, "extra_key"),
        (ON | {"seed": "x"}, "seed"),
        ({"custom_params": []}, "custom_params"),
    ],
)
def test_refused_by_name_before_a_stream_starts(api, ask, extra_body, named, stream):
    with pytest.raises(openai.BadRequestError, match=named):
        ask(api, extra_body=extra_body, stream=stream)


@pytest.mark.parametrize("ask", ENDPOINTS)
@pytest.mark.parametrize("stream", [False, True])
def test_ordinary_answers_carry_no_stamp(api, ask, stream):
    answer = ask(api, extra_body={"deterministic": False}, stream=stream)
    parts = [getattr(part, "response", part) for part in answer] if stream else [answer]
    for part in parts:
        assert not hasattr(part, "llm42")
        assert not getattr(part, "system_fingerprint", None)


@pytest.mark.parametrize("ask", ENDPOINTS)
@pytest.mark.parametrize("how", [{"deterministic": True}, ON, {}])
def test_field_and_seed_are_read_in_every_way_of_asking(api, ask, how):
    """Without a word the server's default holds."""
    answer = ask(api, extra_body=how | {"seed": 7}, temperature=0.9)
    assert answer.llm42["seed"] == 7


@pytest.mark.parametrize("ask", [chat, respond])
def test_a_client_that_leaves_frees_its_request(api, url, ask):
    limit = {"max_tokens": 1900} if ask is chat else {"max_output_tokens": 1900}
    stream = ask(api, stream=True, **limit)
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 60
    # /flush_cache succeeds only when nothing is left running.
    while client.connection(url).request("POST", "/flush_cache").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
