"""The field is read, or refused; never dropped."""

import asyncio
import json

import httpx
import pytest

from llm42_sglang.frontend.field_gate import READ_BY, FieldGate


async def echo(scope, receive, send):
    """An app that answers with the body it got."""
    body, more = b"", scope["method"] == "POST"
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def post(path: str, content) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(FieldGate(echo))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.post(path, content=content)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "body", [{"deterministic": True}, {"parameters": {"deterministic": True}}, {"deterministic": 1}]
)
def test_refused_where_nobody_reads_it(body):
    response = post("/v1/messages", json.dumps(body))
    assert response.status_code == 400
    assert "deterministic" in response.json()["error"]["message"]


@pytest.mark.parametrize("path", READ_BY)
def test_left_to_those_who_read_it(path):
    body = json.dumps({"deterministic": True})
    assert post(path, body).text == body


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"deterministic": False}),
        json.dumps({"text": 'say "deterministic"'}),
        json.dumps(["deterministic"]),
        '{"deterministic": ',
        "",
    ],
)
def test_other_bodies_arrive_whole(body):
    assert post("/v1/messages", body).text == body


def test_a_body_in_parts_arrives_whole():
    async def parts():
        yield b'{"text": "determ'
        yield b'inistic"}'

    assert post("/v1/messages", parts()).text == '{"text": "deterministic"}'
