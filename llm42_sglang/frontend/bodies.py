"""Bodies of HTTP requests, read before the handler reads them; and the errors that answer them."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi.responses import JSONResponse

App = Callable[..., Awaitable[None]]  # ASGI


def error_response(status: int, message: str, **more: Any) -> JSONResponse:
    """One line, in the shape of OpenAI's errors."""
    error = {"message": f"llm42: {message}", **more}
    return JSONResponse({"error": error}, status_code=status)


async def read_body(receive: Any) -> list[dict[str, Any]]:
    """The messages of a request's body, for `replay` to hand on."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    return messages


def parsed_object(messages: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The JSON object that the body is; None for any other body, of which the handler tells."""
    try:
        payload = json.loads(b"".join(message.get("body", b"") for message in messages))
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def replay(messages: list[dict[str, Any]], receive: Any) -> Any:
    """A `receive` that hands out what was read."""
    waiting = iter(messages)

    async def next_message() -> dict[str, Any]:
        return next(waiting, None) or await receive()

    return next_message
