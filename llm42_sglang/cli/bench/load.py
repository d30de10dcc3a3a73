"""The load generator: it decides when each request is sent, and uses a thread for each under way.

SGLang's bench_serving would not do. It keeps neither `meta_info`, where receipts are, nor output
ids. It takes a `deterministic` per request only from a data set file of its own format. Its
definitions of TTFT, inter-token time and throughput are used here.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from random import Random
from typing import NamedTuple

from llm42_sglang.cli.bench.outcome import Outcome, outcome_of, recompute
from llm42_sglang.cli.bench.workload import LoadRequest, Source, mark
from llm42_sglang.cli.output import bar
from llm42_sglang.repro.connection import GENERATE, Connection, Reply, at_once

TIMEOUT_S = 1800


class Target(NamedTuple):
    """A server, and whether it accepts deterministic requests."""

    url: str
    deterministic: bool


@dataclass(frozen=True, slots=True)
class Load:
    """When requests are sent.

    In a closed loop `in_flight` requests are under way, and each answer lets the next one be sent.
    Answers of one length would all end together, again and again. If the loop is staggered, the
    first requests ask for fewer tokens, each for another number, so that ends are spread. With a
    rate, requests are sent as Poisson arrivals, whether or not others are answered.
    """

    name: str
    in_flight: int = 0
    staggered: bool = False
    rate_per_s: float = 0.0
    percent: float = 0.0  # of stock's rate in a closed loop, which is still to be measured

    @classmethod
    def closed(cls, in_flight: int, staggered: bool = False) -> "Load":
        """A closed loop of so many requests."""
        name = f"{in_flight} in flight" + ", staggered" * staggered
        return cls(name, in_flight, staggered)

    def shape(self, requests: Sequence[LoadRequest]) -> list[LoadRequest]:
        """The requests as this load sends them."""
        if not self.staggered:
            return list(requests)
        first = [
            replace(request, new_tokens=max(2, request.new_tokens * i // self.in_flight))
            for i, request in enumerate(requests[: self.in_flight], 1)
        ]
        return [*first, *requests[self.in_flight :]]

    def due_s(self, count: int, seed: int) -> list[float | None]:
        """When each request is sent, in seconds from the start. The seed determines the times.

        None stands for a request of a closed loop, which is sent once another is answered.
        """
        dice, at_s, times = Random(seed), 0.0, []
        for _ in range(count):
            times.append(at_s if self.rate_per_s else None)
            at_s += dice.expovariate(self.rate_per_s or 1)
        return times


class Step(NamedTuple):
    """One measurement: a load on a server, in a round."""

    round: int
    load: str
    share: float  # of deterministic requests, in percent
    server: str

    def __str__(self) -> str:
        return f"round {self.round + 1}, {self.load}, {self.share:g} % deterministic, {self.server}"


Measurements = dict[Step, list[Outcome]]


def one_round(
    number: int,
    targets: Mapping[str, Target],
    source: Source,
    loads: Sequence[Load],
    shares: Sequence[float],
    count: int,
) -> Measurements:
    """Measure every load and share on both servers.

    The server that is first changes with the round. All prompts of a round are the same.
    Raises UserError if a deterministic answer is not verified.
    """
    measurements = {}
    for load, share in product(loads, shares):
        requests = mark(load.shape(source.requests(count, number)), share)
        for server in ("stock", "llm42")[:: -1 if number % 2 else 1]:
            step = Step(number, load.name, share, server)
            measurements[step] = run(targets[server], requests, load, str(step), number)
            if server == "llm42":
                recompute(measurements[step])  # raises if an answer is not verified
    return measurements


def run(
    target: Target, requests: Sequence[LoadRequest], load: Load, title: str, seed: int = 0
) -> list[Outcome]:
    """Load a server whose prefix cache is empty. The outcomes are in the order of the requests.

    Raises UserError if the server does not answer every request.
    """
    bodies = [request.body(target.deterministic) for request in requests]
    due_s = load.due_s(len(requests), seed)
    with (
        Connection(target.url, timeout_s=TIMEOUT_S) as connection,
        bar(title, len(requests)) as advance,
    ):
        connection.flush()
        start_s = time.perf_counter()

        def send(i: int) -> Reply:
            if (at_s := due_s[i]) is not None:
                time.sleep(max(0, start_s + at_s - time.perf_counter()))
            reply = connection.post(GENERATE, bodies[i]).require_ok(target.url)
            advance()
            return reply

        replies = at_once(send, range(len(requests)), load.in_flight or len(requests))
    return [
        outcome_of(request, reply, start_s, at_s)
        for request, reply, at_s in zip(requests, replies, due_s, strict=True)
    ]
