"""The load generator: when each request is sent, and a thread for each that is under way.

Not SGLang's bench_serving: it keeps neither `meta_info`, where receipts are, nor output ids, and
takes a per-request `deterministic` only by way of a data set file of its own format. Its
definitions of TTFT, inter-token time and throughput are kept.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from llm42_sglang.cli.bench.outcome import Outcome, outcome_of
from llm42_sglang.cli.bench.workload import Request
from llm42_sglang.repro.connection import GENERATE, Connection, Reply, at_once

TIMEOUT_S = 1800

Advance = Callable[[], object]  # called whenever a request is done


class Target(NamedTuple):
    """A server, and whether it may be asked for determinism."""

    url: str
    deterministic: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """As soon as one request is answered, the next is sent."""

    in_flight: int
    every_s: float = 0.0  # between the first requests of two clients; 0: all of them at once
    name: str = ""

    def __str__(self) -> str:
        return self.name or f"{self.in_flight} in flight"

    def most_in_flight(self, count: int) -> int:
        """Requests under way at once, of `count`."""
        return min(self.in_flight, count)

    def due_s(self, count: int) -> list[float | None]:
        """When each request is to be sent, from the start; None: once another is answered."""
        first = [client * self.every_s or None for client in range(self.in_flight)]
        return [*first, *[None] * count][:count]


@dataclass(frozen=True, slots=True)
class Poisson:
    """Requests arrive whether or not others are answered; the same times for the same seed."""

    rate_per_s: float
    seed: int = 0
    name: str = ""  # by default the rate

    def __str__(self) -> str:
        return self.name or f"{self.rate_per_s:g}/s"

    def most_in_flight(self, count: int) -> int:
        """All of them, if the server does not answer in time."""
        return count

    def due_s(self, count: int) -> list[float]:
        """When each request is to be sent; the first one at 0."""
        dice, at_s = Random(self.seed), [0.0]
        while len(at_s) < count:
            at_s.append(at_s[-1] + dice.expovariate(self.rate_per_s))
        return at_s[:count]


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


Load = Closed | Poisson


def run(
    target: Target, requests: Sequence[Request], load: Load, advance: Advance = lambda: None
) -> list[Outcome]:
    """Load a server from an empty prefix cache; outcomes in the order of the requests.

    Raises UserError if the server refuses or fails a single request.
    """
    bodies = [request.body(target.deterministic) for request in requests]
    due_s = load.due_s(len(requests))
    with Connection(target.url, timeout_s=TIMEOUT_S) as connection:
        connection.flush()
        start_s = time.perf_counter()

        def send(i: int) -> Reply:
            if (at_s := due_s[i]) is not None:
                time.sleep(max(0, start_s + at_s - time.perf_counter()))
            reply = connection.post(GENERATE, bodies[i]).require_ok(target.url)
            advance()
            return reply

        replies = at_once(send, range(len(requests)), load.most_in_flight(len(requests)))
    return [
        outcome_of(request, reply, start_s, at_s)
        for request, reply, at_s in zip(requests, replies, due_s, strict=True)
    ]
