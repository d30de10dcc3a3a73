"""What stands before SGLang's HTTP handlers: the check of `deterministic`, and the facts endpoint.

A request that asks for determinism in a place that nobody reads is refused. Otherwise it would be
served as an ordinary one, and look deterministic to its sender.
"""

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse

from llm42_sglang.frontend.bodies import App, error_response, read_body, replay
from llm42_sglang.frontend.places import refusal
from llm42_sglang.frontend.seeds import messages_with_word_moved

_WITH_BODY = ("POST", "PUT", "PATCH")


class FieldGate:
    """ASGI middleware: 400 if `deterministic` stands where nobody reads it; see `places`."""

    def __init__(self, app: App):
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] not in _WITH_BODY:
            await self.app(scope, receive, send)
            return
        messages = await read_body(receive)
        body = b"".join(message.get("body", b"") for message in messages)
        if message := refusal(scope["path"], scope["query_string"], scope["headers"], body):
            await error_response(400, message, code=400)(scope, receive, send)
        else:
            readable = messages_with_word_moved(scope["path"], messages)
            await self.app(scope, replay(readable, receive), send)


def facts_response(proof: Mapping[str, Any], problem: str | None) -> JSONResponse:
    """Return `{"fingerprint", "facts", "certificate"}`; 503 with the reason if there is a problem.

    The fingerprint is `core.receipts.fingerprint(facts)`, so a client can recompute it. The
    certificate (`engine.start.certify.Certificate`) says what was measured at this start. It is not
    part of the fingerprint.
    """
    return JSONResponse(dict(proof)) if problem is None else error_response(503, problem)
