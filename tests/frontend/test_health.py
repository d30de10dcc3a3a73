"""Health is red exactly while there is a problem, and nothing else changes."""

import asyncio

import httpx
import pytest

from llm42_sglang.frontend.health import HEALTH_PATHS, HealthGate


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})


def get(path: str, problem: str | None) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(HealthGate(app, lambda: problem))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get(path)

    return asyncio.run(ask())


@pytest.mark.parametrize("path", HEALTH_PATHS)
def test_health_tells_the_problem(path):
    response = get(path, "the hooks are not live")
    assert response.status_code == 503
    assert "the hooks are not live" in response.json()["error"]["message"]
    assert get(path, None).text == "fine"


def test_other_paths_pass():
    assert get("/generate", "a problem").text == "fine"
