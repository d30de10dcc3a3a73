"""What stands before SGLang's HTTP handlers: health, the fingerprint's facts, the field's readers.

- A server whose deterministic service is not live must not look healthy.
- A request that asks for determinism where nobody would read it must not look served.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi.responses import JSONResponse

from llm42_sglang.frontend.places import refusal

HEALTH_PATHS = ("/health", "/health_generate", "/ready", "/ping")
_WITH_BODY = ("POST", "PUT", "PATCH")

App = Callable[..., Awaitable[None]]


class HealthGate:
    """ASGI middleware: 503 with the reason while there is a problem, else the app's own answer."""

    def __init__(self, app: App, problem: Callable[[], str | None]):
        self.app = app
        self.problem = problem

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        reason = self.problem() if scope.get("path") in HEALTH_PATHS else None
        answer = self.app if reason is None else _error(503, reason)
        await answer(scope, receive, send)


class FieldGate:
    """ASGI middleware: 400 where the field stands and nobody reads it; see `places`."""

    def __init__(self, app: App):
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] not in _WITH_BODY:
            await self.app(scope, receive, send)
            return
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        body = b"".join(message.get("body", b"") for message in messages)
        if message := refusal(scope["path"], scope["query_string"], scope["headers"], body):
            await _error(400, message, code=400)(scope, receive, send)
        else:
            await self.app(scope, _replay(messages, receive), send)


def facts_response(proof: Mapping[str, Any], problem: str | None) -> JSONResponse:
    """`{"fingerprint", "facts", "certificate"}`; 503 with the reason while there is a problem.

    The fingerprint is `core.receipts.fingerprint(facts)`: a client can check that. The certificate
    is what was measured at this start (`engine.certify.Certificate`), and no part of the hash.
    """
    return JSONResponse(dict(proof)) if problem is None else _error(503, problem)


def _error(status: int, message: str, **more: Any) -> JSONResponse:
    error = {"message": f"llm42: {message}", **more}
    return JSONResponse({"error": error}, status_code=status)


def _replay(messages: list[dict[str, Any]], receive: Any) -> Any:
    waiting = iter(messages)

    async def next_message() -> dict[str, Any]:
        return next(waiting, None) or await receive()

    return next_message
