"""Throughput over stock SGLang's, with two servers under load that take turns of a second.

    scripts/run python research/turns.py [--shares 0,10,50,100] [--rounds 3] [--out FILE]

`llm42 bench throughput` loads one server after the other, and on a shared host two minutes differ
by a tenth. Here both servers have their load at the same time, but only one runs. The processes of
the other are stopped by a signal, and the clock of its load stands still. So both loads meet the
same neighbours. The requests are those of `llm42 bench throughput`. The last line is JSON.
"""

import argparse
import os
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from llm42_sglang.cli.bench import load, report, servers
from llm42_sglang.cli.bench.outcome import recompute
from llm42_sglang.cli.bench.workload import Source, mark
from llm42_sglang.cli.launch import ServerProcess

TURN_S = 1.0
PROMPT, NEW, IN_FLIGHT, REQUESTS = "32-512", "128", 16, 32


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
    processes: Mapping[str, ServerProcess], source: Source, share: float, number: int
) -> tuple[dict[str, float], int]:
    """Return the seconds of the same requests on each server, and the rollbacks.

    The server that has the first turn changes with the round.
    """
    requests = mark(source.requests(REQUESTS, number), share)
    shape = load.Load.closed(IN_FLIGHT)
    order = dict(list(processes.items())[:: -1 if number % 2 else 1])
    with ThreadPoolExecutor(len(order)) as pool:
        loads = {
            name: pool.submit(
                *(load.run, load.Target(server.url, name == "llm42"), requests, shape),
                f"round {number + 1}, {share:g} % deterministic, {name}",
            )
            for name, server in order.items()
        }
        seconds = in_turns(order, loads)
    verified = recompute(loads["llm42"].result())  # raises if an answer is not verified
    loads["stock"].result()
    return seconds, verified.rollbacks


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shares", default="0,10,50,100", help="percents, with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    options = parser.parse_args()
    shares = [float(share) for share in options.shares.split(",")]
    source = Source.of(PROMPT, NEW, None, 0)
    flags = servers.Flags.of(source.model, ["--max-total-tokens", "20000"], 0)
    processes = {"stock": servers.stock(flags), "llm42": servers.ours(flags)}
    seconds: dict[str, list[dict[str, float]]] = {f"{share:g}": [] for share in shares}
    rollbacks = 0
    with servers.running(**processes):
        for name, server in processes.items():  # warm up
            short = [replace(r, new_tokens=8) for r in source.requests(IN_FLIGHT, 99)]
            target = load.Target(server.url, name == "llm42")
            load.run(target, mark(short, 50), load.Load.closed(IN_FLIGHT), "warming up")
        for number in range(options.rounds):
            for share in shares:
                of_each, rolled_back = one_load(processes, source, share, number)
                seconds[f"{share:g}"].append(of_each)
                rollbacks += rolled_back
    ratios = {
        share: [each["stock"] / each["llm42"] for each in of_share]
        for share, of_share in seconds.items()
    }
    workload = source.describe() | {
        **{"requests": REQUESTS, "in_flight": IN_FLIGHT, "rounds": options.rounds},
        **{"turn_s": TURN_S, "flags": flags.text},
    }
    medians = {share: statistics.median(each) for share, each in ratios.items()}
    rows = [(share, medians[share], min(each), max(each)) for share, each in ratios.items()]
    columns = ("deterministic %", "llm42 over stock", "least", "most")
    report.show("output tokens per second", workload, columns, rows)
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "ratio_to_stock": medians,
        "ratios_to_stock": ratios,
        "seconds": seconds,
        "rollbacks": rollbacks,
    }
    report.finish(result, workload, options.out)


if __name__ == "__main__":
    main()
