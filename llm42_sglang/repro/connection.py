"""HTTP to one server: the only place that sends requests to a model server and times streams."""

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
FLUSH_S = 30  # the server flushes only when idle; it may finish what just ended
GENERATE = "/generate"
KEPT_S = 2  # idle connections; SGLang closes them after 5, and a request must not meet that
LOOPBACK = ("localhost", "127.0.0.1", "::1")

Item = TypeVar("Item")
Result = TypeVar("Result")


class Event(NamedTuple):
    """One event of a stream. at_s: `time.perf_counter` when it arrived."""

    at_s: float
    data: Any


class Reply(NamedTuple):
    """What came back for one request: a whole response, or the events of a stream.

    sent_s, done_s: `time.perf_counter` before the first byte went out and after the last came in.
    """

    path: str
    status: int
    text: str
    events: list[Event]
    sent_s: float
    done_s: float

    def require_ok(self, where: str = "") -> "Reply":
        """The reply itself. Raises UserError unless its status is 200."""
        if self.status == 200:
            return self
        raise UserError(f"{where}{self.path} was answered with {self.status}: {short(self.text)}")

    def json(self) -> dict[str, Any]:
        """The one object of a whole response. Raises UserError if there is none."""
        try:
            body = json.loads(self.text)
        except (ValueError, RecursionError):
            raise UserError(f"the answer is not JSON: {short(self.text)}") from None
        if not isinstance(body, dict):
            raise UserError(f"the answer is not one object: {short(self.text)}")
        return body


class Connection(AbstractContextManager):
    """A server's URL with connections to it, for many threads at once.

    `url` may end in OpenAI's `/v1`. Proxies of the environment apply, but not for this machine.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        try:
            host = httpx.URL(self.url).host
        except httpx.InvalidURL:
            host = ""
        if not self.url.startswith(("http://", "https://")) or not host:
            raise UserError(f"{url!r} is no URL; it looks like http://localhost:30000")
        if not (api_key or "").isascii():
            raise UserError("the API key is no key: it has characters that are not ASCII")
        self.client = httpx.Client(
            base_url=self.url,
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_S),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
            trust_env=host not in LOOPBACK,
            limits=httpx.Limits(max_connections=None, keepalive_expiry=KEPT_S),
        )

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self.client.close()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request, whatever comes back. Raises UserError if nobody answers."""
        try:
            return self.client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise self._gone(error) from None

    def post(self, path: str, body: dict[str, Any]) -> Reply:
        """One body, streamed if it says so, whatever comes back. Raises UserError if it cannot be
        sent, or the server stops answering."""
        sent_s = time.perf_counter()
        try:
            with self.client.stream("POST", path, json=body) as response:
                streamed = body.get("stream") and response.status_code == 200
                events = list(events_of(response)) if streamed else []
                text = "" if streamed else response.read().decode(errors="replace")
        except httpx.HTTPError as error:
            raise self._gone(error) from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"the request cannot be sent as JSON: {error}") from None
        return Reply(path, response.status_code, text, events, sent_s, time.perf_counter())

    def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer of one /generate request, of a stream its last event. Raises UserError."""
        reply = self.post(GENERATE, body).require_ok()
        return reply.events[-1].data if reply.events else reply.json()

    def flush(self) -> None:
        """Empty the prefix cache, once the server is idle. Raises UserError if it does not."""
        response = self.request("POST", "/flush_cache", params={"timeout": FLUSH_S})
        if response.status_code != 200:
            raise UserError(f"/flush_cache was answered with {response.status_code}")

    def _gone(self, error: httpx.HTTPError) -> UserError:
        return UserError(f"{self.url} stopped answering: {error!r}")


def events_of(response: httpx.Response) -> Iterator[Event]:
    """The events of a stream as they arrive, up to `[DONE]`. Raises UserError.

    Lines end as the format says, in a line feed, a carriage return or both: in JSON a text has
    neither. But it may hold whatever else Unicode takes for an end.
    """
    rest = b""
    for chunk in chain(response.iter_bytes(), [b"\n"]):
        *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        for data in (line[5:].strip() for line in lines if line.startswith(b"data:")):
            if not data.startswith(b"{"):
                continue
            at_s = time.perf_counter()
            try:
                yield Event(at_s, json.loads(data))
            except (ValueError, RecursionError):
                told = short(data.decode(errors="replace"))
                raise UserError(f"a stream has an event that is not JSON: {told}") from None


def at_once(
    ask: Callable[[Item], Result],
    items: Sequence[Item],
    in_flight: int,
    shuffle: int | None = None,
) -> list[Result]:
    """`ask` every item, at most `in_flight` at a time, in an order that `shuffle` seeds.

    Results are in the items' order. The first that fails keeps the others from being sent.
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
    finally:  # after an error or Ctrl-C nobody waits for what is still under way
        pool.shutdown(wait=False, cancel_futures=True)


def short(text: str) -> str:
    """The beginning of a text, in one line."""
    return " ".join(text.split())[:300]
