"""What no check has foreseen: an answer of 5xx to a request that the server has survived.

SGLang's handlers answer 500 to many malformed bodies, by an exception that nobody catches or by
one that they catch themselves. While the scheduler lives, the request is what was wrong.
"""

import json
import logging
from collections.abc import Callable
from typing import Any

from llm42_sglang.frontend.bodies import App, error_response

MAX_BYTES = 32 << 20  # of a body
# On paths whose handlers make tokens of a text in the event loop, about a second for these.
MAX_BYTES_IN_LOOP = 1 << 20
_IN_LOOP = ("/v1/messages", "/v1/messages/count_tokens", "/api/chat", "/api/generate")
# Of a JSON body, outside of strings: parsing and checking more holds everybody's event loop.
MAX_COMMAS = 1_200_000  # a batch of 256 prompts of 4,096 ids has 1,048,575
MAX_BRACKETS = 20_000  # that open an object or a list
MAX_QUOTES = 400_000  # two for each string and name
MAX_WORDS = 50_000  # null, true and false
_TURNED = (500, 501)
_BEFORE_JSON = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"  # marks of byte order, and blanks

logger = logging.getLogger(__name__)


class LastResort:
    """ASGI middleware: 400 with one line for 500, unless the server has a problem of its own."""

    def __init__(self, app: App, problem: Callable[[], str | None]):
        self.app = app
        self.problem = problem

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send, self.problem)
        most = MAX_BYTES_IN_LOOP if scope["path"] in _IN_LOOP else MAX_BYTES
        body = _Counted(receive, most)
        try:
            if _length(scope) > most:
                raise _TooLarge(f"more than {most} bytes")
            await self.app(scope, body.receive, answer.send)
        except Exception as error:
            if answer.ended:  # SGLang's task after it; to raise would break the connection
                logger.exception("after an answer")
                return
            if answer.started or self.problem() is not None:
                raise
            logger.exception("a request could not be served")
            status, line = 413, f"the body has {error}"
            if not isinstance(error, _TooLarge):
                status, line = 400, f"the request could not be served: {_line(error)}"
            await error_response(status, line, code=status)(scope, receive, send)


class _TooLarge(Exception):
    """What it has too much of."""


class _Counted:
    """`receive`, for as much as is allowed."""

    def __init__(self, receive: Any, most: int):
        self._receive = receive
        self._most = most  # bytes
        self._bytes = 0
        self._json: _JsonCounts | None = None
        self._other = False

    async def receive(self) -> dict[str, Any]:
        message = await self._receive()
        part = message.get("body", b"")
        self._bytes += len(part)
        if self._bytes > self._most:
            raise _TooLarge(f"more than {self._most} bytes")
        if self._json is None and not self._other and (start := part.lstrip(_BEFORE_JSON)):
            self._other = start[:1] not in (b"{", b"[")  # a form or a file
            self._json = None if self._other else _JsonCounts()
        if self._json is not None:
            self._json.add(part)
        return message


class _JsonCounts:
    """Counts what stands outside of strings, part by part."""

    def __init__(self) -> None:
        self._rest = b""  # backslashes at the end of a part
        self._in_string = False
        self._commas = self._brackets = self._quotes = self._words = 0

    def add(self, part: bytes) -> None:
        """Raises _TooLarge."""
        # UTF-16 and UTF-32 hold NULs, and quotes inside of letters: there everything counts.
        outside = part if b"\0" in part else self._outside(part)
        self._commas += outside.count(b",")
        self._brackets += outside.count(b"[") + outside.count(b"{")
        self._words += outside.count(b"u") + outside.count(b"f")
        counts = (
            (self._commas, MAX_COMMAS, "commas"),
            (self._brackets, MAX_BRACKETS, "opening brackets"),
            (self._quotes, MAX_QUOTES, "quotes"),
            (self._words, MAX_WORDS, "of null, true and false"),
        )
        for count, most, what in counts:
            if count > most:
                raise _TooLarge(f"more than {most} {what}")

    def _outside(self, part: bytes) -> bytes:
        part = self._rest + part
        kept = len(part) - len(part.rstrip(b"\\"))
        self._rest, part = part[len(part) - kept :], part[: len(part) - kept]
        pieces = part.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = b"".join(pieces[self._in_string :: 2])
        self._quotes += len(pieces) - 1
        self._in_string ^= len(pieces) % 2 == 0
        return outside


class _Answer:
    """`send`, which keeps an answer of 500 back until it is whole, to tell its first line."""

    def __init__(self, send: Any, problem: Callable[[], str | None]):
        self._send = send
        self._problem = problem
        self._kept: list[bytes] | None = None
        self.started = self.ended = False

    async def send(self, message: dict[str, Any]) -> None:
        body = message["type"] == "http.response.body"
        self.ended = self.ended or (body and not message.get("more_body"))
        if message["type"] == "http.response.start":
            self.started = True
            if message["status"] in _TURNED and self._problem() is None:
                self._kept = []
                return
        if self._kept is None:
            await self._send(message)
            return
        self._kept.append(message.get("body", b""))
        if not message.get("more_body"):
            line = f"the request could not be served: {_told(b''.join(self._kept))}"
            await error_response(400, line, code=400)({"type": "http"}, None, self._send)


def _told(body: bytes) -> str:
    """The message of an error body."""
    try:
        told = json.loads(body)
        inner = told.get("error", told)
        told = inner.get("message", inner) if isinstance(inner, dict) else inner
    except (ValueError, AttributeError):
        told = body.decode(errors="replace")
    return " ".join(str(told).split())[:300]


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _length(scope: dict[str, Any]) -> int:
    value = dict(scope["headers"]).get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0
