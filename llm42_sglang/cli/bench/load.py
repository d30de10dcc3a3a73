"""The load generator: streams requests to a server and times every chunk.

Not SGLang's bench_serving: it keeps neither `meta_info`, where receipts are, nor output ids, and
takes a per-request `deterministic` only by way of a data set file of its own format; nor can two of
its loads take turns (`turns`). Its definitions of TTFT, inter-token time and throughput are kept.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import httpx

from llm42_sglang.cli.bench.clock import Clock
from llm42_sglang.cli.bench.outcome import Outcome, parse
from llm42_sglang.cli.bench.workload import Request
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.launch import ServerProcess, local_client

TIMEOUT_S = 1800
FLUSH_S = 30  # the server flushes only when idle; it may finish what just ended

Advance = Callable[[], object]  # called whenever a request is done


class Target(NamedTuple):
    """A server, and whether it may be asked for determinism."""

    url: str
    deterministic: bool
    process: ServerProcess | None = None  # None: started by somebody else


class _Raw(NamedTuple):
    sent_s: float
    lines: list[tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Closed:
    """As soon as one request is answered, the next is sent."""

    in_flight: int
    every_s: float = 0.0  # between the first requests of two clients; 0: all of them at once
    name: str = ""

    def __str__(self) -> str:
        return self.name or f"{self.in_flight} in flight"

    async def drive(self, send: "_Send", count: int) -> list[_Raw]:
        """Send `count` requests; what came back, in their order."""
        answers: dict[int, _Raw] = {}
        todo = iter(range(count))

        async def one_after_the_other(at_s: float | None) -> None:
            for i in todo:
                answers[i] = await send(i, at_s)
                at_s = None  # at once

        first_s = [client * self.every_s or None for client in range(self.in_flight)]
        await all_or_none(map(one_after_the_other, first_s))
        return [answers[i] for i in range(count)]


@dataclass(frozen=True, slots=True)
class Poisson:
    """Requests arrive whether or not others are answered; the same times for the same seed."""

    rate_per_s: float
    seed: int = 0
    name: str = ""  # by default the rate

    def __str__(self) -> str:
        return self.name or f"{self.rate_per_s:g}/s"

    def arrivals_s(self, count: int) -> list[float]:
        """The first one at 0."""
        dice, at_s = Random(self.seed), [0.0]
        while len(at_s) < count:
            at_s.append(at_s[-1] + dice.expovariate(self.rate_per_s))
        return at_s[:count]

    async def drive(self, send: "_Send", count: int) -> list[_Raw]:
        """Send `count` requests; what came back, in their order."""
        return await all_or_none(send(i, at_s) for i, at_s in enumerate(self.arrivals_s(count)))


@dataclass(frozen=True, slots=True)
class Relative:
    """Poisson arrivals, as often as a part of what stock answers in a closed loop.

    So that fast machines and slow ones are loaded alike.
    """

    percent: float

    def __str__(self) -> str:
        return f"{self.percent:g} % of stock"

    def of(self, answered_per_s: float) -> Poisson:
        """The load, when the server has been measured."""
        return Poisson(self.percent / 100 * answered_per_s, name=str(self))


@dataclass(frozen=True, slots=True)
class Staggered:
    """A closed loop whose clients start one by one, as often as stock answers in a closed loop.

    Clients that start at once and get answers of one length go on in lockstep: all prompts come
    while nobody decodes. Here they are spread over about the time of an answer, as where traffic
    never stops. Only about: the first answers, with few beside them, are shorter; and filling and
    emptying the loop count.
    """

    in_flight: int

    def __str__(self) -> str:
        return f"{self.in_flight} in flight (staggered)"

    def of(self, answered_per_s: float) -> Closed:
        """The load, when the server has been measured."""
        return Closed(self.in_flight, 1 / answered_per_s, name=str(self))


_Send = Callable[[int, float | None], Awaitable[_Raw]]  # request's number, seconds to send it at
Load = Closed | Poisson


class Job(NamedTuple):
    """What one server is to do."""

    target: Target
    requests: Sequence[Request]
    load: Load
    advance: Advance = lambda: None


def run(
    target: Target, requests: Sequence[Request], load: Load, advance: Advance = lambda: None
) -> list[Outcome]:
    """Load a server from an empty prefix cache; outcomes in the order of the requests.

    Raises UserError if the server refuses or fails a single request.
    """
    job = Job(target, requests, load, advance)
    with user_errors():
        flush(target.url)
        raw = asyncio.run(_on_its_own(job))
    return outcomes_of(job, raw)


def flush(url: str) -> None:
    """Empty the prefix cache."""
    with local_client(url, TIMEOUT_S) as client:
        _expect_ok(client.post("/flush_cache", params={"timeout": FLUSH_S}))


def outcomes_of(job: Job, raw: Sequence[_Raw]) -> list[Outcome]:
    """After the load: parsing would take time from the servers, which share this machine."""
    return [parse(request, *one) for request, one in zip(job.requests, raw, strict=True)]


@contextmanager
def user_errors() -> Iterator[None]:
    """A server that is gone is a UserError."""
    try:
        yield
    except httpx.HTTPError as error:
        raise UserError(f"{error.request.url} stopped answering: {error!r}") from error


async def _on_its_own(job: Job) -> list[_Raw]:
    return await drive(job, Clock())


async def drive(job: Job, clock: Clock) -> list[_Raw]:
    """Send the requests; what came back, in their order, at the clock's times."""
    bodies = [request.body(job.target.deterministic) for request in job.requests]
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(
        base_url=job.target.url, timeout=TIMEOUT_S, trust_env=False, limits=limits
    ) as client:

        async def send(i: int, at_s: float | None) -> _Raw:
            if at_s is not None:
                await clock.sleep_until(at_s)
            else:
                at_s = clock()
            lines = []
            async with client.stream("POST", "/generate", json=bodies[i]) as response:
                if response.status_code != 200:
                    await response.aread()
                _expect_ok(response)
                async for line in response.aiter_lines():
                    lines.append((clock(), line))
            job.advance()
            return _Raw(at_s, lines)

        await clock.started()  # or this server would have its first requests before its time
        return await job.load.drive(send, len(bodies))


async def all_or_none(tasks: Iterable[Awaitable]) -> list:
    """Wait for all; the first that fails cancels the others."""
    running = [asyncio.ensure_future(task) for task in tasks]
    try:
        return await asyncio.gather(*running)
    except BaseException:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        raise


def _expect_ok(response: httpx.Response) -> None:
    if response.status_code != 200:
        path = response.request.url.path
        raise UserError(
            f"the server answered {path} with {response.status_code}: {response.text[:300]}"
        )
