"""The last check of HTTP requests: too large a body is 413, and a 500 becomes a 400.

SGLang answers 500 to many malformed bodies. While the scheduler lives, the fault is the request's,
so the client gets 400 and the reason in one line. A stream that has begun ends with the reason.

The limits on a body are there because one event loop serves all clients. While it parses and checks
a huge body, everybody waits.
"""

import json
import logging
from collections.abc import Callable
from typing import Any

from llm42_sglang.frontend.bodies import App, error_response

MAX_BYTES = 32 << 20
# For paths whose handlers tokenize texts in the event loop: so many bytes take about a second.
MAX_BYTES_IN_LOOP = 1 << 20
_IN_LOOP = ("/v1/messages", "/v1/messages/count_tokens", "/api/chat", "/api/generate")
# The limits of a JSON body, counted outside of strings:
MAX_COMMAS = 1_200_000  # a batch of 256 prompts of 4,096 ids has 1,048,575
MAX_BRACKETS = 20_000  # opening ones
MAX_QUOTES = 400_000  # two for each string and name
MAX_WORDS = 50_000  # null, true and false
# Their streams check a request only when they begin. SGLang sends the status before that.
_LATE = ("/api/chat", "/api/generate")
_SERVER_ERRORS = (500, 501)  # statuses that become 400
_BEFORE_JSON = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"  # byte order marks, and blanks

logger = logging.getLogger(__name__)


class LastResort:
    """ASGI middleware: 413 for too large a body, and 400 in place of 500.

    problem: returns the server's own problem in one line, or None. While it has one, a 500 is sent
    as it is.
    """

    def __init__(self, app: App, problem: Callable[[], str | None]):
        self.app = app
        self.problem = problem

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send, self.problem, late=scope["path"] in _LATE)
        most = MAX_BYTES_IN_LOOP if scope["path"] in _IN_LOOP else MAX_BYTES
        body = _Counted(receive, most)
        try:
            if _length(scope) > most:
                raise _TooLargeError(f"more than {most} bytes")
            await self.app(scope, body.receive, answer.send)
        except Exception as error:
            if answer.ended:  # a background task of SGLang's; raising would break the connection
                logger.exception("llm42: an exception after a complete answer")
                return
            if self.problem() is not None or (answer.started and not answer.of_events):
                raise
            logger.exception("llm42: a request could not be served")
            status, line = 413, f"the body has {error}; send less in one request"
            if not isinstance(error, _TooLargeError):
                status, line = 400, f"the request could not be served: {_line(error)}"
            response = error_response(status, line, code=status)
            if answer.started:
                events = b"data: " + bytes(response.body) + b"\n\ndata: [DONE]\n\n"
                await send({"type": "http.response.body", "body": events})
            else:
                await response(scope, receive, send)


class _TooLargeError(Exception):
    """A body is too large. The message says what it has more of than is allowed."""


class _Counted:
    """An ASGI `receive` that raises _TooLargeError once a body is past a limit."""

    def __init__(self, receive: Any, most: int):
        self._receive = receive
        self._most = most  # bytes
        self._bytes = 0
        self._json: _JsonCounts | None = None
        self._not_json = False

    async def receive(self) -> dict[str, Any]:
        message = await self._receive()
        part = message.get("body", b"")
        self._bytes += len(part)
        if self._bytes > self._most:
            raise _TooLargeError(f"more than {self._most} bytes")
        if self._json is None and not self._not_json and (start := part.lstrip(_BEFORE_JSON)):
            self._not_json = start[:1] not in (b"{", b"[")  # a form or a file
            self._json = None if self._not_json else _JsonCounts()
        if self._json is not None:
            self._json.add(part)
        return message


class _JsonCounts:
    """Counts what a JSON body has outside of strings. The body comes in parts."""

    def __init__(self) -> None:
        self._rest = b""  # the backslashes that the last part ended with
        self._in_string = False
        self._commas = self._brackets = self._quotes = self._words = 0

    def add(self, part: bytes) -> None:
        """Count the next part. Raises _TooLargeError."""
        # UTF-16 and UTF-32 have NULs, and quotes inside of letters. There strings count too.
        outside = part if b"\0" in part else self._outside(part)
        self._commas += outside.count(b",")
        self._brackets += outside.count(b"[") + outside.count(b"{")
        self._words += outside.count(b"u") + outside.count(b"f")
        counts = (
            (self._commas, MAX_COMMAS, "commas"),
            (self._brackets, MAX_BRACKETS, "opening brackets"),
            (self._quotes, MAX_QUOTES, "quotes"),
            (self._words, MAX_WORDS, "words null, true and false"),
        )
        for count, most, what in counts:
            if count > most:
                raise _TooLargeError(f"more than {most} {what}")

    def _outside(self, part: bytes) -> bytes:
        """Return what of a part is outside of strings."""
        part = self._rest + part
        backslashes = len(part) - len(part.rstrip(b"\\"))
        end = len(part) - backslashes
        self._rest, part = part[end:], part[:end]
        pieces = part.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = b"".join(pieces[self._in_string :: 2])
        self._quotes += len(pieces) - 1
        self._in_string ^= len(pieces) % 2 == 0
        return outside


class _Answer:
    """An ASGI `send` that turns a 500 into a 400 with one line.

    For that it keeps the answer back until it is complete. late: it keeps the status back until the
    first part of the body.
    """

    def __init__(self, send: Any, problem: Callable[[], str | None], late: bool):
        self._send = send
        self._problem = problem
        self._late = late
        self._start: dict[str, Any] | None = None
        self._kept: list[bytes] | None = None
        self.started = self.ended = False
        self.of_events = False  # it is a stream of server-sent events

    async def send(self, message: dict[str, Any]) -> None:
        body = message["type"] == "http.response.body"
        self.ended = self.ended or (body and not message.get("more_body"))
        if message["type"] == "http.response.start":
            self.started = not self._late
            kind = dict(message.get("headers", ())).get(b"content-type", b"")
            self.of_events = kind.startswith(b"text/event-stream")
            if message["status"] in _SERVER_ERRORS and self._problem() is None:
                self._kept = []
                return
            if self._late:
                self._start = message
                return
        if self._start is not None:
            start, self._start, self.started = self._start, None, True
            await self._send(start)
        if self._kept is None:
            await self._send(message)
            return
        self._kept.append(message.get("body", b""))
        if not message.get("more_body"):
            line = f"the request could not be served: {_message_of(b''.join(self._kept))}"
            await error_response(400, line, code=400)({"type": "http"}, None, self._send)


def _message_of(body: bytes) -> str:
    """Return the message in the body of an error, in one line."""
    try:
        payload = json.loads(body)
        error = payload.get("error", payload)
        message = error.get("message", error) if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        message = body.decode(errors="replace")
    return " ".join(str(message).split())[:300]


def _line(error: Exception) -> str:
    """Return an exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _length(scope: dict[str, Any]) -> int:
    """Return the length that the header of a request names, in bytes; 0 if there is none."""
    value = dict(scope["headers"]).get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0
