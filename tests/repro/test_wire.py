"""Bodies and answers of the two APIs, where the fake endpoints do not cover them."""

import json
from math import nextafter

import httpx
import pytest

from llm42_sglang.repro.connection import events_of
from llm42_sglang.repro.output import mismatch
from llm42_sglang.repro.suite import Case, Message, Sampling
from llm42_sglang.repro.wire import CHAT, COMPLETIONS, GENERATE, answer_of, body_of

IDS = Case(id="ids", input_ids=[5, 6], sampling=Sampling(top_logprobs=2, seed=1))
TALK = Case(id="talk", messages=[Message(role="user", content="Hi")], sampling=IDS.sampling)


def test_token_ids_and_alternatives_in_every_dialect():
    native = body_of(IDS, GENERATE, "m", True)
    assert native["input_ids"] == [5, 6] and "text" not in native
    assert native["top_logprobs_num"] == 2 and native["sampling_params"]["sampling_seed"] == 1
    completion, chat = body_of(IDS, COMPLETIONS, "m", True), body_of(TALK, CHAT, "m", True)
    assert completion["prompt"] == [5, 6] and completion["logprobs"] == 2
    assert chat["logprobs"] is True and chat["top_logprobs"] == 2
    assert not any("top_logprobs" in body for body in (native, native["sampling_params"]))
    plain = body_of(Case(id="plain", prompt="x"), COMPLETIONS, "m", None)
    assert plain["logprobs"] == 0 and "top_logprobs" not in plain


def native(low: float) -> dict:
    top = [[[-0.5, 9, None], [low, 8, None]]]
    meta = {"output_token_logprobs": [[-0.5, 9, "a"]], "output_top_logprobs": top}
    return {"text": "a", "output_ids": [9], "meta_info": {**meta, "cached_tokens": 32}}


def completion(low: float) -> dict:
    logprobs = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5, "b": low}]}
    return {"choices": [{"text": "a", "logprobs": logprobs}]}


def chat(low: float) -> dict:
    top = [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": low}]
    content = [{"token": "a", "logprob": -0.5, "top_logprobs": top}]
    return {"choices": [{"message": {"content": "a"}, "logprobs": {"content": content}}]}


@pytest.mark.parametrize(
    ("path", "body"), [(GENERATE, native), (COMPLETIONS, completion), (CHAT, chat)]
)
def test_an_alternative_that_differs_in_one_bit_is_a_mismatch(path, body):
    first, same, other = (answer_of(path, [body(low)]) for low in (-0.1, -0.1, nextafter(-0.1, 0)))
    assert mismatch(first.output, same.output) is None
    assert mismatch(first.output, other.output).what == "logprobs"
    assert first.logprobs == other.logprobs == (-0.5,)
    assert first.cached_tokens == (32 if path == GENERATE else None)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_stream_may_be_cut_anywhere_and_its_lines_end_as_the_format_says(end):
    texts = [{"text": "a\u2028\u2029\x85é"}, {"text": "b"}]
    lines = [f"data: {json.dumps(text, ensure_ascii=False)}{end}{end}" for text in texts]
    stream = "".join([": a comment", end, *lines, "data: [DONE]"]).encode()
    for size in range(1, len(stream) + 1):
        chunks = (stream[at : at + size] for at in range(0, len(stream), size))
        assert [event.data for event in events_of(httpx.Response(200, content=chunks))] == texts
