"""A server whose deterministic service is not live must not look healthy."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

HEALTH_PATHS = ("/health", "/health_generate", "/ready", "/ping")


class HealthGate:
    """ASGI middleware: 503 with the reason while there is a problem, else the app's own answer."""

    def __init__(self, app: Callable[..., Awaitable[None]], problem: Callable[[], str | None]):
        self.app = app
        self.problem = problem

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        reason = self.problem() if scope.get("path") in HEALTH_PATHS else None
        if reason is None:
            await self.app(scope, receive, send)
            return
        body = json.dumps({"error": {"message": f"llm42: {reason}"}}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})
