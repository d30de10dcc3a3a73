"""Where "fresh" may stand for a seed, where it is moved to, and what is refused."""

import json

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient

from llm42_sglang.frontend.bounds import Bounds, refuse_sampling
from llm42_sglang.frontend.gates import FieldGate
from llm42_sglang.frontend.options import Refused
from llm42_sglang.frontend.seeds import (
    asks_for_fresh_seed,
    refuse_fresh_seed,
    refuse_unclear_seed,
    with_word_moved,
)

WORD = {"sampling_seed": "fresh"}
CHAT = "/v1/chat/completions"
OPENAI = (CHAT, "/v1/completions", "/v1/responses", "/invocations")


def test_the_word_is_moved_and_the_callers_parameters_stay():
    given = {"sampling_seed": "fresh", "top_k": 3, "custom_params": {"mine": 1}}
    copy = json.loads(json.dumps(given))
    moved = with_word_moved(given)
    assert moved == {"sampling_seed": None, "top_k": 3, "custom_params": {"mine": 1} | WORD}
    assert given == copy
    assert with_word_moved(moved) == moved  # twice is once
    assert asks_for_fresh_seed(moved["custom_params"])


@pytest.mark.parametrize("params", [{}, {"sampling_seed": 7}, {"sampling_seed": "Fresh"}])
def test_other_seeds_stay_where_they_are(params):
    assert with_word_moved(params) == params
    assert not asks_for_fresh_seed(with_word_moved(params).get("custom_params"))


def test_an_ordinary_request_cannot_ask_for_it():
    with pytest.raises(Refused, match=r'^sampling_seed: "fresh" is for deterministic requests'):
        refuse_fresh_seed(WORD)
    for others in (None, {}, {"sampling_seed": 7}):  # a number there is somebody else's
        refuse_fresh_seed(others)


@pytest.mark.parametrize(
    ("custom", "seed", "said"),
    [
        ({"sampling_seed": 7}, None, "custom_params.sampling_seed"),
        ({"sampling_seed": "new"}, None, "'new'"),
        (WORD, 7, "both 7 and"),
    ],
)
def test_a_deterministic_request_says_one_thing(custom, seed, said):
    with pytest.raises(Refused, match=said) as refused:
        refuse_unclear_seed(custom, seed)
    assert "\n" not in str(refused.value)
    for clear in ((WORD, None), ({}, 7), (None, None)):
        refuse_unclear_seed(*clear)


@pytest.mark.parametrize("seed", ["new", "Fresh", "", 1.0, True, 2**63, ["fresh"]])
def test_any_other_seed_is_out_of_bounds(seed):
    bounds = Bounds(vocab_size=100, max_n=4, context=64)
    for good in ("fresh", 7, -(2**63), None):
        refuse_sampling({"sampling_seed": good}, bounds)
    with pytest.raises(Refused, match=r'^sampling_seed must be an integer of 64 bits or "fresh"'):
        refuse_sampling({"sampling_seed": seed}, bounds)


echo = FastAPI()


@echo.post("/{path:path}")
async def answer_with_the_body(request: Request) -> PlainTextResponse:
    return PlainTextResponse(await request.body())


def passed(path: str, content) -> str:
    """The body that SGLang's handler reads."""
    return TestClient(FieldGate(echo)).post(path, content=content).text


@pytest.mark.parametrize("path", OPENAI)
@pytest.mark.parametrize("name", ["seed", "sampling_seed"])
def test_openai_bodies_are_made_readable(path, name):
    """SGLang's class of the body takes a number only."""
    body = {"prompt": "\ud800 \u00e9", "temperature": 0.1, name: "fresh", "n": 2**60}
    read = json.loads(passed(path, json.dumps(body)))
    assert read == body | {name: None, "custom_params": WORD}
    in_parts = iter([b'{"seed": "fr', b'esh", "custom_params": {"a": 1}}'])
    assert json.loads(passed(path, in_parts)) == {"seed": None, "custom_params": {"a": 1} | WORD}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, '{"seed":  7, "user": "fresh"}'),
        (CHAT, '{"metadata":  {"seed": "fresh"}}'),
        (CHAT, '{"seed":  "fresh", "custom_params": []}'),  # malformed: refused as it stands
        (CHAT, '["fresh"]'),
        (CHAT, '{"seed": "fresh"'),
        ("/generate", '{"seed":  "fresh"}'),
        ("/v1/embeddings", '{"seed":  "fresh"}'),
    ],
)
def test_other_bodies_arrive_as_they_were_sent(path, body):
    assert passed(path, body) == body
