"""What FastAPI finds wrong with a body, in one line: where, and what.

FastAPI's own text has many lines. They repeat the body, and name files of the server.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError

from llm42_sglang.errors import one_line

Handler = Callable[[Request, RequestValidationError], Awaitable[Response]]
_OWN_TEXT = ("/v1/messages", "/v1/systemone")  # paths for which SGLang makes a text itself
_MOST, _SHOWN = 3, 300  # mistakes that a line names, and characters of each


class _OneLineError(RequestValidationError):
    """SGLang's handler shows the text, and the errors too if their text is another."""

    def __init__(self, line: str):
        super().__init__([])
        self.line = line

    def __str__(self) -> str:
        return self.line

    def errors(self) -> Any:
        return self.line


def in_one_line(original: Handler) -> Handler:
    """SGLang's handler, which gives an error its shape, with a text of one line."""

    async def handle(request: Request, error: RequestValidationError) -> Response:
        if request.url.path.startswith(_OWN_TEXT):
            return await original(request, error)
        return await original(request, _OneLineError(line_of(error)))

    return handle


def line_of(error: RequestValidationError) -> str:
    """The first mistakes in a body: where each is, and what it is."""
    found = error.errors()
    lines = [_one(mistake) for mistake in found[:_MOST]]
    return "; ".join(lines) + "; ..." * (len(found) > _MOST)


def _one(mistake: dict[str, Any]) -> str:
    place = ".".join(str(name)[:_SHOWN] for name in mistake["loc"] if name != "body")
    reason = mistake.get("ctx", {}).get("error", "") if mistake["type"] == "json_invalid" else ""
    said = f"{mistake['msg']}: {reason}" if reason else mistake["msg"]
    if mistake["type"] == "json_invalid":
        place = f"byte {place}"
    return one_line(f"{place}: {said}" if place else said)[: 2 * _SHOWN]
