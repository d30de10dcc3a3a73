"""What stands before SGLang's HTTP handlers: the field's readers, the fingerprint's facts.

A request that asks for determinism where nobody would read it must not look served.
"""

import json
from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse

from llm42_sglang.frontend.bodies import App, error_response, read_body, replay
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

    def __init__(self, app: App):
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] in READ_BY:
            await self.app(scope, receive, send)
            return
        messages = await read_body(receive)
        if not _asks(b"".join(message.get("body", b"") for message in messages)):
            await self.app(scope, replay(messages, receive), send)
            return
        message = f"{FIELD}: {scope['path']} cannot serve it; use one of {', '.join(READ_BY)}"
        await error_response(400, message, code=400)(scope, receive, send)


def facts_response(proof: Mapping[str, Any], problem: str | None) -> JSONResponse:
    """`{"fingerprint", "facts", "certificate"}`; 503 with the reason while there is a problem.

    The fingerprint is `core.receipts.fingerprint(facts)`: a client can check that. The certificate
    is what was measured at this start (`engine.certify.Certificate`), and no part of the hash.
    """
    return JSONResponse(dict(proof)) if problem is None else error_response(503, problem)


def _asks(body: bytes) -> bool:
    """Whether a JSON object has the field set, at its top or in one of its parts."""
    if _MARK not in body:
        return False
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return False  # the handler will say so
    if not isinstance(payload, dict):
        return False
    parts = (payload, *(part for part in payload.values() if isinstance(part, dict)))
    return any(part.get(FIELD) not in (None, False) for part in parts)
