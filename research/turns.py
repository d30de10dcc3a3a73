"""Throughput over stock SGLang's, with two servers under load that take turns of a second.

    scripts/run python research/turns.py [--in-flight 16] [--requests 32] [--shares 0,10,50,100]
        [--rounds 3] [--out FILE]

`llm42 bench throughput` loads one server after the other, and on a shared host two minutes differ
by a tenth. Here both servers have their load at the same time, but only one runs. The processes of
the other are stopped by a signal, and the clock of its load stands still. So both loads meet the
same neighbours. The requests are those of `llm42 bench throughput`. The last line is JSON.
"""

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, cycle
from pathlib import Path
from statistics import median
from typing import Any

from llm42_sglang.cli.bench import load, report, servers
from llm42_sglang.cli.bench.options import require_full_loop
from llm42_sglang.cli.bench.outcome import Outcome, recompute
from llm42_sglang.cli.bench.workload import LoadRequest, Source, mark
from llm42_sglang.cli.launch import ServerProcess
from llm42_sglang.cli.signals import leave_on_signals
from llm42_sglang.errors import UserError

TURN_S = 1.0
PROMPT, NEW = "32-512", "128"


@contextmanager
def stopped(server: ServerProcess) -> Iterator[None]:
    """Stop the server's processes where they are, and let them go on afterwards."""
    os.killpg(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(server.pid, signal.SIGCONT)


def in_turns(
    processes: Mapping[str, ServerProcess], loads: Mapping[str, Future]
) -> dict[str, float]:
    """Let the servers run in turns until all loads have ended. Returns the seconds of each."""
    seconds = dict.fromkeys(processes, 0.0)
    for name in cycle(processes):
        under_way = [other for other, future in loads.items() if not future.done()]
        if not under_way:
            return seconds
        if name not in under_way:
            continue
        (other,) = (process for each, process in processes.items() if each != name)
        with stopped(other):
            began = time.perf_counter()
            wait([loads[name]], timeout=TURN_S)
            seconds[name] += time.perf_counter() - began
    raise AssertionError("a cycle has no end")


def one_load(
    processes: Mapping[str, ServerProcess],
    requests: Sequence[LoadRequest],
    shape: load.Load,
    title: str,
) -> tuple[dict[str, float], list[Outcome]]:
    """Return the seconds of these requests on each server, and our server's answers.

    The first of the servers has the first turn.
    """
    pool = ThreadPoolExecutor(len(processes))
    try:
        loads = {
            name: pool.submit(
                *(load.run, load.Target(server.url, name == "llm42"), requests, shape),
                f"{title}, {name}",
            )
            for name, server in processes.items()
        }
        seconds = in_turns(processes, loads)
        loads["stock"].result()
        outcomes = loads["llm42"].result()
    finally:
        pool.shutdown(wait=False)  # a signal ends the servers first, and with them the loads
    recompute(outcomes)  # raises if an answer is not verified
    return seconds, outcomes


def measure(options: argparse.Namespace, source: Source, flags: servers.Flags) -> dict[str, Any]:
    """All rounds of all shares, on two servers that stay up. The shares are the keys, as text."""
    shares = {share: float(share) for share in options.shares.split(",")}
    shape = load.Load.closed(options.in_flight)
    processes = {"stock": servers.stock(flags), "llm42": servers.ours(flags)}
    seconds: dict[str, list[dict[str, float]]] = {share: [] for share in shares}
    answers: dict[str, list[Outcome]] = {share: [] for share in shares}
    with servers.running(**processes):
        for name, server in processes.items():  # warm up
            short = [replace(r, new_tokens=8) for r in source.requests(options.in_flight, 99)]
            target = load.Target(server.url, name == "llm42")
            load.run(target, mark(short, 50), shape, "warming up")
        for number in range(options.rounds):
            order = dict(list(processes.items())[:: -1 if number % 2 else 1])
            for share, percent in shares.items():
                requests = mark(source.requests(options.requests, number), percent)
                of_each, outcomes = one_load(
                    order, requests, shape, f"round {number + 1}, {share} % deterministic"
                )
                seconds[share].append(of_each)
                answers[share] += outcomes
    ratios = {
        share: [each["stock"] / each["llm42"] for each in of_share]
        for share, of_share in seconds.items()
    }
    return {
        "ratio_to_stock": {share: median(each) for share, each in ratios.items()},
        "ratios_to_stock": ratios,
        "seconds": seconds,
        **receipts(answers),
    }


def receipts(answers: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    """What the receipts add up to."""
    by_share = {share: recompute(outcomes) for share, outcomes in answers.items()}
    total = recompute(chain(*answers.values()))
    return {
        "rollbacks": total.rollbacks,
        "canonical_step_rate": total.canonical_step_rate,
        "canonical_step_rate_by_share": {s: r.canonical_step_rate for s, r in by_share.items()},
        "recompute_rate_by_share": {s: r.rate for s, r in by_share.items()},
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--requests", type=int, default=32, help="in each round")
    parser.add_argument("--shares", default="0,10,50,100", help="percents, with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    options = parser.parse_args()
    try:
        require_full_loop(options.requests, options.in_flight)
    except UserError as error:
        sys.exit(f"turns.py: error: {error}")
    leave_on_signals()
    source = Source.of(PROMPT, NEW, None, 0)
    flags = servers.Flags.of(source.model, [], 2 * options.in_flight * source.most_tokens)
    result = {"command": shlex.join(["python", *sys.argv]), **measure(options, source, flags)}
    workload = source.describe() | {
        **{name: getattr(options, name) for name in ("requests", "in_flight", "rounds")},
        **{"turn_s": TURN_S, "flags": flags.text},
    }
    rows = [
        (share, result["ratio_to_stock"][share], min(ratios), max(ratios))
        for share, ratios in result["ratios_to_stock"].items()
    ]
    columns = ("deterministic %", "llm42 over stock", "least", "most")
    report.show("output tokens per second", workload, columns, rows)
    report.finish(result, workload, options.out)


if __name__ == "__main__":
    main()
