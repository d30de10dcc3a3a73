"""HTTP to one model server. All requests are sent here, and all streams are timed here."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from itertools import chain
from random import Random
from typing import Any, NamedTuple, TypeVar

import httpx

from llm42_sglang.errors import UserError

TIMEOUT_S = 900
CONNECT_S = 10
FLUSH_S = 30  # how long the server may take to become idle; it flushes only then
GENERATE = "/generate"
# SGLang closes an idle connection after 5 s, and a request sent at that moment would fail.
KEEP_IDLE_S = 2
LOOPBACK = ("localhost", "127.0.0.1", "::1")

Item = TypeVar("Item")
Result = TypeVar("Result")


class StreamEvent(NamedTuple):
    """One event of a stream. `at_s` is the value of `time.perf_counter` when it arrived."""

    at_s: float
    data: Any


class Reply(NamedTuple):
    """What came back for one request: the text of a response, or the events of a stream.

    `sent_s` and `done_s` are `time.perf_counter` before the first byte went out and after the last
    one came in.
    """

    path: str
    status: int
    text: str
    events: list[StreamEvent]
    sent_s: float
    done_s: float

    def require_ok(self, where: str = "") -> "Reply":
        """Return this reply. Raises UserError unless its status is 200; `where` begins the text."""
        if self.status == 200:
            return self
        raise UserError(f"{where}{self.path} was answered with {self.status}: {short(self.text)}")

    def json(self, several: bool = False) -> Any:
        """Return the response's JSON object; with `several` it may be a list. Raises UserError."""
        try:
            body = json.loads(self.text)
        except (ValueError, RecursionError):
            raise UserError(f"the answer is not JSON: {short(self.text)}") from None
        if not isinstance(body, dict) and not (several and isinstance(body, list)):
            raise UserError(f"the answer is not one object: {short(self.text)}")
        return body


class Connection(AbstractContextManager):
    """Connections to the server at a URL, for many threads at once.

    `url` may end in OpenAI's `/v1`. The environment's proxies are used, except for this machine.
    Raises UserError for a URL or a key that cannot be one.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """transport: what carries requests to the server; None: the network."""
        self.url = url.rstrip("/").removesuffix("/v1")
        try:
            host = httpx.URL(self.url).host
        except httpx.InvalidURL:
            host = ""
        if not self.url.startswith(("http://", "https://")) or not host:
            raise UserError(f"{url!r} is no URL; a URL looks like http://localhost:30000")
        if not (api_key or "").isascii():
            raise UserError("the API key has characters that are not ASCII, so it is no key")
        self.client = httpx.Client(
            base_url=self.url,
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_S),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
            transport=transport,
            trust_env=host not in LOOPBACK,
            limits=httpx.Limits(max_connections=None, keepalive_expiry=KEEP_IDLE_S),
        )

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self.client.close()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send any request and return its response. Raises UserError if nobody answers."""
        try:
            return self.client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise self._stopped_answering(error) from None

    def post(self, path: str, body: dict[str, Any]) -> Reply:
        """Send one body and return the reply, of whatever status; with `stream` in it, the events.

        Raises UserError if the body cannot be sent or the server stops answering.
        """
        sent_s = time.perf_counter()
        try:
            with self.client.stream("POST", path, json=body) as response:
                streamed = body.get("stream") and response.status_code == 200
                events = list(events_of(response)) if streamed else []
                text = "" if streamed else response.read().decode(errors="replace")
        except httpx.HTTPError as error:
            raise self._stopped_answering(error) from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"the request cannot be sent as JSON: {error}") from None
        return Reply(path, response.status_code, text, events, sent_s, time.perf_counter())

    def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        """Send one /generate request; return its answer, or the last event. Raises UserError."""
        reply = self.post(GENERATE, body).require_ok()
        return reply.events[-1].data if reply.events else reply.json()

    def flush(self) -> None:
        """Empty the prefix cache once the server is idle. Raises UserError if that fails."""
        response = self.request("POST", "/flush_cache", params={"timeout": FLUSH_S})
        if response.status_code != 200:
            raise UserError(f"/flush_cache was answered with {response.status_code}")

    def _stopped_answering(self, error: httpx.HTTPError) -> UserError:
        return UserError(f"{self.url} stopped answering: {error!r}")


def events_of(response: httpx.Response) -> Iterator[StreamEvent]:
    """Yield the events of a stream as they arrive, up to `[DONE]`.

    A line ends in a line feed, a carriage return or both, as the format of event streams says. A
    text in JSON contains neither. It may contain other characters that Unicode counts as ends of
    lines, so httpx's `iter_lines` would cut it. Raises UserError for an event that is not JSON.
    """
    rest = b""
    for chunk in chain(response.iter_bytes(), [b"\n"]):
        *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        for data in (line[5:].strip() for line in lines if line.startswith(b"data:")):
            if not data.startswith(b"{"):
                continue
            at_s = time.perf_counter()
            try:
                yield StreamEvent(at_s, json.loads(data))
            except (ValueError, RecursionError):
                text = short(data.decode(errors="replace"))
                raise UserError(f"a stream has an event that is not JSON: {text}") from None


def at_once(
    ask: Callable[[Item], Result],
    items: Sequence[Item],
    in_flight: int,
    shuffle: int | None = None,
) -> list[Result]:
    """Call `ask` with every item, at most `in_flight` at a time; results in the items' order.

    `shuffle` is the seed of a random order of asking. After the first error no further item is
    asked, and the error is raised.
    """
    order = list(range(len(items)))
    if shuffle is not None:
        Random(shuffle).shuffle(order)
    pool = ThreadPoolExecutor(in_flight)
    try:
        futures = {i: pool.submit(ask, items[i]) for i in order}
        done, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        return [futures[i].result() for i in range(len(items))]
    finally:  # after an error or Ctrl-C, requests still under way are not waited for
        pool.shutdown(wait=False, cancel_futures=True)


def short(text: str) -> str:
    """The first 300 characters of a text, in one line."""
    return " ".join(text.split())[:300]
