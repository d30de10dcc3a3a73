"""Health is red exactly while there is a problem; the field is read, or refused, never dropped."""

import asyncio
import json

import httpx
import pytest

from llm42_sglang.core.receipts import fingerprint
from llm42_sglang.frontend.gates import (
    HEALTH_PATHS,
    READ_BY,
    FieldGate,
    HealthGate,
    facts_response,
)

FACTS = {"page": 32, "weights": "ab" * 32, "model": {"rms_norm_eps": 1e-05, "tokenizer": None}}


async def echo(scope, receive, send):
    """An app that answers with the body it got."""
    body, more = b"", scope["method"] == "POST"
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body or b"fine"})


def ask(app, method: str, path: str, content=None) -> httpx.Response:
    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path, content=content)

    return asyncio.run(request())


def post(path: str, content) -> httpx.Response:
    return ask(FieldGate(echo), "POST", path, content)


@pytest.mark.parametrize("path", HEALTH_PATHS)
def test_health_tells_the_problem(path):
    response = ask(HealthGate(echo, lambda: "the hooks are not live"), "GET", path)
    assert response.status_code == 503
    assert "the hooks are not live" in response.json()["error"]["message"]
    assert ask(HealthGate(echo, lambda: None), "GET", path).text == "fine"
    assert ask(HealthGate(echo, lambda: "a problem"), "GET", "/generate").text == "fine"


def test_a_client_can_hash_the_facts_itself():
    proof = {"fingerprint": fingerprint(FACTS), "facts": FACTS, "certificate": {"widths": (1, 8)}}
    response = facts_response(proof, problem=None)
    body = json.loads(response.body)
    assert response.status_code == 200
    assert body["facts"] == FACTS
    assert fingerprint(body["facts"]) == body["fingerprint"]
    assert body["certificate"] == {"widths": [1, 8]}
    response = facts_response({}, problem="the hooks are not live")
    assert response.status_code == 503
    assert "the hooks are not live" in json.loads(response.body)["error"]["message"]


@pytest.mark.parametrize(
    "body", [{"deterministic": True}, {"parameters": {"deterministic": True}}, {"deterministic": 1}]
)
def test_the_field_is_refused_where_nobody_reads_it(body):
    response = post("/v1/messages", json.dumps(body))
    assert response.status_code == 400
    assert "deterministic" in response.json()["error"]["message"]


def test_the_field_is_left_to_those_who_read_it():
    body = json.dumps({"deterministic": True})
    assert [post(path, body).text for path in READ_BY] == [body] * len(READ_BY)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"deterministic": False}),
        json.dumps({"text": 'say "deterministic"'}),
        json.dumps(["deterministic"]),
        '{"deterministic": ',
    ],
)
def test_other_bodies_arrive_whole(body):
    assert post("/v1/messages", body).text == body


def test_a_body_in_parts_arrives_whole():
    async def parts():
        yield b'{"text": "determ'
        yield b'inistic"}'

    assert post("/v1/messages", parts()).text == '{"text": "deterministic"}'
    assert post("/v1/messages", "").text == "fine"  # no body at all
