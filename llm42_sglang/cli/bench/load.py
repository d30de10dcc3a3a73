"""The load generator: when each request is sent, and a thread for each that is under way.

Not SGLang's bench_serving: it keeps neither `meta_info`, where receipts are, nor output ids, and
takes a per-request `deterministic` only by way of a data set file of its own format. Its
definitions of TTFT, inter-token time and throughput are kept.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import NamedTuple

from llm42_sglang.cli.bench.outcome import Outcome, outcome_of, recompute
from llm42_sglang.cli.bench.workload import Request, Source, mark
from llm42_sglang.cli.output import bar
from llm42_sglang.repro.connection import GENERATE, Connection, Reply, at_once

TIMEOUT_S = 1800


class Target(NamedTuple):
    """A server, and whether it may be asked for determinism."""

    url: str
    deterministic: bool


@dataclass(frozen=True, slots=True)
class Load:
    """When requests are sent: as soon as one of `in_flight` is answered, the next; or, with a rate,
    whether or not others are answered, as Poisson arrivals."""

    name: str
    in_flight: int = 0
    rate_per_s: float = 0.0
    percent: float = 0.0  # of what stock answers in a closed loop: a rate to be settled

    @classmethod
    def closed(cls, in_flight: int) -> "Load":
        """A closed loop."""
        return cls(f"{in_flight} in flight", in_flight)

    def due_s(self, count: int, seed: int) -> list[float | None]:
        """When each request is to be sent, from the start; None: once another is answered. The
        same times for the same seed."""
        dice, at_s, times = Random(seed), 0.0, []
        for _ in range(count):
            times.append(at_s if self.rate_per_s else None)
            at_s += dice.expovariate(self.rate_per_s or 1)
        return times


class Step(NamedTuple):
    """One load of one server."""

    round: int
    load: str
    share: float  # of deterministic requests, in percent
    server: str

    def __str__(self) -> str:
        return f"round {self.round + 1}, {self.load}, {self.share:g} % deterministic, {self.server}"


Measured = dict[Step, list[Outcome]]


def one_round(
    number: int,
    targets: Mapping[str, Target],
    source: Source,
    loads: Sequence[Load],
    shares: Sequence[float],
    count: int,
) -> Measured:
    """Every load and share, on stock and then ours; who is first changes with the round. In a
    round all have the same prompts. Raises UserError if an answer of ours is not verified."""
    measured = {}
    for one, share in product(loads, shares):
        requests = mark(source.requests(count, number), share)
        for server in ("stock", "llm42")[:: -1 if number % 2 else 1]:
            step = Step(number, one.name, share, server)
            measured[step] = run(targets[server], requests, one, str(step), number)
            if server == "llm42":
                recompute(measured[step])  # refuses answers that are not verified
    return measured


def run(
    target: Target, requests: Sequence[Request], load: Load, title: str, seed: int = 0
) -> list[Outcome]:
    """Load a server from an empty prefix cache; outcomes in the order of the requests.

    Raises UserError if the server refuses or fails a single request.
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
