"""A request that asks for determinism where nobody would read it must not look served."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from llm42_sglang.frontend.options import FIELD

READ_BY = (  # paths whose handlers read the field; the others' request classes drop it
    "/generate",
    "/invocations",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
)
_MARK = f'"{FIELD}"'.encode()


class FieldGate:
    """ASGI middleware: 400 for a body with the field on a path that does not know it."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] in READ_BY:
            await self.app(scope, receive, send)
            return
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        if not _asks(b"".join(message.get("body", b"") for message in messages)):
            await self.app(scope, _replay(messages, receive), send)
            return
        message = f"{FIELD}: {scope['path']} cannot serve it; use one of {', '.join(READ_BY)}"
        body = json.dumps({"error": {"message": f"llm42: {message}", "code": 400}}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 400, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _asks(body: bytes) -> bool:
    """Whether a JSON object has the field set, at its top or in one of its parts."""
    if _MARK not in body:
        return False
    try:
        payload = json.loads(body)
    except ValueError:
        return False  # the handler will say so
    if not isinstance(payload, dict):
        return False
    parts = (payload, *(part for part in payload.values() if isinstance(part, dict)))
    return any(part.get(FIELD) not in (None, False) for part in parts)


def _replay(messages: list[dict[str, Any]], receive: Any) -> Any:
    waiting = iter(messages)

    async def next_message() -> dict[str, Any]:
        return next(waiting, None) or await receive()

    return next_message
