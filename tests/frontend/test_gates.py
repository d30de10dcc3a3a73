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


@pytest.mark.parametrize("path", HEALTH_PATHS)
def test_health_tells_the_problem(path):
    response = ask(HealthGate(echo, lambda: "the hooks are not live"), "GET", path)
    assert response.status_code == 503
    assert "the hooks are not live" in response.json()["error"]["message"]
    assert ask(HealthGate(echo, lambda: None), "GET", path).text == "fine"
    assert ask(HealthGate(echo, lambda: "a problem"), "GET", "/generate").text == "fine"


def test_a_client_can_hash_the_facts_itself():
    facts = {"page": 32, "weights": "ab" * 32, "model": {"eps": 1e-05, "tokenizer": None}}
    proof = {"fingerprint": fingerprint(facts), "facts": facts, "certificate": {"widths": (1, 8)}}
    body = json.loads(facts_response(proof, problem=None).body)
    assert body == proof | {"certificate": {"widths": [1, 8]}}
    assert fingerprint(body["facts"]) == body["fingerprint"]
    response = facts_response({}, problem="the hooks are not live")
    assert response.status_code == 503
    assert "the hooks are not live" in json.loads(response.body)["error"]["message"]


ASKS = json.dumps({"deterministic": True})


async def in_parts(*parts: bytes):
    for part in parts:
        yield part


@pytest.mark.parametrize(
    ("path", "content", "arrives"),
    [
        *(("/v1/messages", content, None) for content in (ASKS, '{"deterministic": 1}')),
        ("/v1/messages", '{"parameters": {"deterministic": true}}', None),
        ("/v1/messages", in_parts(b'{"determ', b'inistic": true}'), None),
        *((path, ASKS, ASKS) for path in READ_BY),
        *(
            ("/v1/messages", content, content)
            for content in (
                '{"deterministic": false}',
                '{"text": "say \\"deterministic\\""}',
                '["deterministic"]',
                '{"deterministic": ',
            )
        ),
        ("/v1/messages", in_parts(b'{"text": "determ', b'inistic"}'), '{"text": "deterministic"}'),
        ("/v1/messages", "", "fine"),  # no body at all
    ],
)
def test_the_field_is_read_or_refused_and_other_bodies_arrive_whole(path, content, arrives):
    response = ask(FieldGate(echo), "POST", path, content)
    if arrives is not None:
        assert response.text == arrives
        return
    assert response.status_code == 400
    assert "deterministic" in response.json()["error"]["message"]
