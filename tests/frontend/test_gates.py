"""Health is red exactly while there is a problem; the field is read, or refused, never dropped."""

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient

from llm42_sglang.frontend import gates
from llm42_sglang.frontend.gates import FieldGate
from llm42_sglang.frontend.health import HEALTH_PATHS, HealthGate

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


ASKS, OTHER = '{"deterministic": true}', "/v1/messages"
WHOLE = [
    '{"deterministic": false}',
    '{"text": "\\"deterministic\\""}',
    '["deterministic"]',
    '{"deterministic": ',
]


def in_parts(*parts: bytes):
    yield from parts


@pytest.mark.parametrize(
    ("path", "content", "arrives"),
    [
        *((path, ASKS, ASKS) for path in gates.READ_BY),
        (OTHER, ASKS, None),
        (OTHER, '{"deterministic": 1}', None),
        (OTHER, '{"parameters": {"deterministic": true}}', None),
        (OTHER, in_parts(b'{"determ', b'inistic": true}'), None),
        (OTHER, in_parts(b'{"text": "determ', b'inistic"}'), '{"text": "deterministic"}'),
        *((OTHER, content, content) for content in WHOLE),
        (OTHER, "", "fine"),  # no body at all
    ],
)
def test_the_field_is_read_or_refused_and_other_bodies_arrive_whole(path, content, arrives):
    response = TestClient(FieldGate(echo)).post(path, content=content)
    if arrives is not None:
        assert response.text == arrives
        return
    assert response.status_code == 400
    assert "deterministic" in response.json()["error"]["message"]
