"""Reading the body of an HTTP request before its handler does, and the error responses we send."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi.responses import JSONResponse

App = Callable[..., Awaitable[None]]  # ASGI


def error_response(status: int, message: str, **more: Any) -> JSONResponse:
    """Return a response with a one-line message, in the shape of OpenAI's errors.

    `more` holds further entries of the error object.
    """
    error = {"message": f"llm42: {message}", **more}
    return JSONResponse({"error": error}, status_code=status)


async def read_body(receive: Any) -> list[dict[str, Any]]:
    """Read a whole body and return its ASGI messages, which `replay` hands to the handler."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    return messages


def parsed_object(messages: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the JSON object in a body; None if the body is anything else.

    In that case the handler reports the error.
    """
    try:
        payload = json.loads(b"".join(message.get("body", b"") for message in messages))
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def replay(messages: list[dict[str, Any]], receive: Any) -> Any:
    """Return an ASGI `receive` that gives `messages` first, then whatever `receive` gives."""
    unread = iter(messages)

    async def next_message() -> dict[str, Any]:
        return next(unread, None) or await receive()

    return next_message
