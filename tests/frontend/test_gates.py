"""Health is 503 exactly while there is a problem. The field is read or refused, never dropped."""

import json
import tracemalloc

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient

from llm42_sglang.frontend.gates import FieldGate
from llm42_sglang.frontend.health import HEALTH_PATHS, HealthGate
from llm42_sglang.frontend.options import Refused
from llm42_sglang.frontend.places import READ, refusal, refuse_misplaced

echo = FastAPI()


@echo.api_route("/{path:path}", methods=["GET", "POST"])
async def answer_with_the_body(request: Request) -> PlainTextResponse:
    return PlainTextResponse(await request.body() or "fine")


@pytest.mark.parametrize("path", HEALTH_PATHS)
def test_health_tells_the_problem(path):
    response = TestClient(HealthGate(echo, lambda: "the hooks are not live")).get(path)
    assert response.status_code == 503
    assert "the hooks are not live" in response.json()["error"]["message"]
    assert TestClient(HealthGate(echo, lambda: None)).get(path).text == "fine"
    assert TestClient(HealthGate(echo, lambda: "a problem")).get("/generate").text == "fine"


CHAT, OTHER = "/v1/chat/completions", "/v1/messages"
OPENAI = sorted(READ.keys() - {"/generate"})
WORD = {"deterministic": True}
SCHEMA = {"type": "object", "properties": {"deterministic": {"type": "boolean"}}}
FUNCTION = {"name": "f", "parameters": SCHEMA}


def nested(levels: int) -> str:
    return '{"a": ' * levels + '{"deterministic": true}' + "}" * levels


IN_VAIN = [  # path, body
    *((path, {name: WORD}) for path in OPENAI for name in ("extra_body", "sampling_params")),
    (CHAT, {"metadata": WORD}),
    (CHAT, {"chat_template_kwargs": WORD}),
    (CHAT, {"messages": [{"role": "user", "content": "Hi", **WORD}]}),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", **WORD}]}]}),
    (CHAT, {"custom_params": {"more": WORD}}),
    (CHAT, {"tools": [{"type": "function", "function": FUNCTION, **WORD}]}),
    (CHAT, {"response_format": {"type": "json_schema", **WORD}}),
    (CHAT, {"DETERMINISTIC": True}),
    (CHAT, {"deterministic": True, "extra_body": {"deterministic": False}}),
    (CHAT, {"metadata": {"deterministic": None}}),
    (CHAT, '{"metadata": {"determ\\u0069nistic": true}}'),
    (CHAT, nested(500)),
    # Names that look like places where data stands.
    (CHAT, {"response_format.json_schema": {"schema": WORD}}),
    (CHAT, {"tools": {"*": {"parameters": WORD}}}),
    (CHAT, {"tools": [{"type": "function", "function": {"name": "f", "parameters.x": WORD}}]}),
    (CHAT, {"": {"custom_params": WORD}}),
    (CHAT, {"format": WORD}),
    (CHAT, {"schema": WORD}),
    ("/generate", {"sampling_params": {"*": WORD}}),
    ("/generate", WORD),
    ("/generate", {"custom_params": WORD}),
    ("/generate", {"sampling_params": {"Deterministic": True}}),
    ("/generate", {"sampling_params": {"custom_params": {"custom_params": WORD}}}),
    (OTHER, WORD),
    (OTHER, {"deterministic": False}),
    (OTHER, {"parameters": WORD}),
    ("/v1/embeddings", {"input": [WORD]}),
    # Misspelt: SGLang would drop it without a word.
    (CHAT, {"determinstic": True}),
    ("/v1/responses", {"deterministisch": True}),
    ("/generate", {"sampling_params": {"deterministc": True}}),
    ("/generate", {"determinism": True}),
]
IN_PLACE = [
    *((path, WORD) for path in OPENAI),
    *((path, {"custom_params": WORD}) for path in OPENAI),
    ("/generate", {"sampling_params": WORD}),
    ("/generate", {"sampling_params": [{"custom_params": WORD}, WORD]}),
    ("/generate", {"text": '"deterministic": true'}),
    (CHAT, {"messages": [{"role": "user", "content": '{"deterministic": true}'}]}),
    (CHAT, {"tools": [{"type": "function", "function": FUNCTION}]}),
    (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}),
    (CHAT, {"messages": [{"tool_calls": [{"function": {"arguments": WORD}}]}]}),
    ("/v1/responses", {"tools": [{"type": "function", **FUNCTION}]}),
    ("/v1/responses", {"text": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
    (CHAT, {"response_format": {"type": "json_object", "schema": SCHEMA}}),
    (CHAT, {"tool_choice": {"type": "function", "function": FUNCTION}}),
    (CHAT, {"tools": [{"type": "function", "function": {"name": "f", "returns": SCHEMA}}]}),
    (CHAT, {"messages": [{"function_call": {"name": "f", "arguments": WORD}}]}),
    (CHAT, {"messages": [{"role": "tool", "content": [{"type": "json", "json": WORD}]}]}),
    ("/v1/responses", {"prompt": {"id": "p", "variables": WORD}}),
    (OTHER, {"output_format": {"type": "json_schema", "schema": SCHEMA}}),
    (OTHER, {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
    ("/api/chat", {"format": SCHEMA}),
    ("/api/generate", {"format": SCHEMA}),
    ("/v1/decisions", {"schema": SCHEMA}),
    ("/v1/systemone", {"schema": SCHEMA}),
    ("/v1/rerank", {"documents": [{"text": "Hi", **WORD}]}),
    (OTHER, {"messages": [{"content": [{"type": "tool_use", "input": WORD}]}]}),
    (OTHER, {"text": "deterministic"}),
    (OTHER, {"determined": True}),
    (OTHER, '["deterministic"]'),
    (OTHER, '{"deterministic": '),
    (OTHER, nested(100_000)),  # not JSON for Python
]


def text_of(body: dict | str) -> str:
    return body if isinstance(body, str) else json.dumps(body)


def post(path: str, content="{}", **more):
    return TestClient(FieldGate(echo)).post(path, content=content, **more)


def refused(response) -> str:
    assert response.status_code == 400, response.text
    return response.json()["error"]["message"]


@pytest.mark.parametrize(("path", "body"), IN_VAIN)
def test_the_word_in_vain_is_refused_with_its_place(path, body):
    message = refused(post(path, text_of(body)))
    assert "deterministic" in message
    home = {"/generate": "sampling_params", OTHER: CHAT, "/v1/embeddings": CHAT}
    assert home.get(path, "the body itself") in message


@pytest.mark.parametrize(("path", "body"), IN_PLACE)
def test_bodies_with_the_word_in_its_place_or_in_data_arrive_whole(path, body):
    assert post(path, text_of(body)).text == text_of(body)


def test_a_body_in_parts_is_judged_as_a_whole():
    assert "deterministic" in refused(post(OTHER, iter([b'{"determ', b'inistic": true}'])))
    assert post(OTHER, iter([b'{"text": "determ', b'inistic"}'])).text == (
        '{"text": "deterministic"}'
    )
    assert post(OTHER, "").text == "fine"  # no body at all


def test_a_place_takes_no_room_however_long_its_names_are():
    body = json.dumps({"x" * 100_000: {f"k{i}": {} for i in range(8000)}, "t": "\u00e9"}).encode()
    tracemalloc.start()
    try:
        assert refusal("/generate", b"", [], body) == ""
        assert tracemalloc.get_traced_memory()[1] < 20 * len(body)  # it was 700 MB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("path", ["/generate", CHAT, OTHER])
def test_query_headers_and_forms_are_not_read(path):
    assert "in the query" in refused(post(f"{path}?deterministic=true"))
    assert "in the query" in refused(post(f"{path}?a=1&Deterministic"))
    assert "header" in refused(post(path, headers={"X-Deterministic": "1"}))
    assert "in a form" in refused(post(path, None, files={"deterministic": b"1"}))
    assert post(f"{path}?text=deterministic", headers={"X-Text": "deterministic"}).text == "{}"


def test_every_method_with_a_body_is_looked_at():
    client = TestClient(FieldGate(echo))
    assert client.request("PUT", "/generate", json=WORD).status_code == 400
    assert client.get(OTHER, params=WORD).text == "fine"


@pytest.mark.parametrize(
    "params",
    [
        {"determinstic": True},
        {"custom_params": {"determinstic": True}},
        {"custom_params": {"more": WORD}},
        [{}, {"Deterministic": True}],
    ],
)
def test_a_call_in_this_program_is_refused_as_a_body_is(params):
    with pytest.raises(Refused, match="is not read; put deterministic into sampling_params or"):
        refuse_misplaced(params)


def test_a_call_in_this_program_may_say_it_where_it_is_read():
    refuse_misplaced(None)
    refuse_misplaced({**WORD, "logit_bias": {5: 1.0}})  # JSON has no such names
    refuse_misplaced([WORD, {"custom_params": WORD}])
