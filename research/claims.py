"""How much faster a claimed answer is checked than generated.

    scripts/run python research/claims.py [--tokens 1000] [--rounds 3] [--out FILE]

It starts a server with the default model. Every round generates answers, alone or several in
flight, and then has the same answers checked as claims. The prefix cache is empty before both. The
same server does both, so a ratio compares two times of one round. The last line is JSON.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from llm42_sglang.cli.bench.servers import Flags, ours
from llm42_sglang.cli.bench.workload import Source, mark
from llm42_sglang.cli.hardware import hardware
from llm42_sglang.files import write_whole
from llm42_sglang.repro.connection import GENERATE, Connection, at_once
from llm42_sglang.repro.wire import claiming

PROMPT = "32-128"  # tokens
console = Console(highlight=False, width=110)  # also where the output is a file


def measure(server: Connection, requests: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Seconds to generate the answers to all requests at once, and to check them as claims."""
    answers, generated = timed(server, requests)
    claims = [
        claiming(GENERATE, request, answer["output_ids"])
        for request, answer in zip(requests, answers, strict=True)
    ]
    checked, seconds = timed(server, claims)
    for answer, again in zip(answers, checked, strict=True):
        assert again["output_ids"] == answer["output_ids"], "a claim was refuted"
    return generated, seconds


def timed(server: Connection, bodies: Sequence[dict[str, Any]]) -> tuple[list[dict], float]:
    """The answers to all bodies at once, and the seconds they took."""
    server.flush()
    began = time.perf_counter()
    answers = at_once(server.generate, bodies, len(bodies))
    return answers, time.perf_counter() - began


def requests(source: Source, count: int, round_number: int) -> list[dict[str, Any]]:
    """Greedy requests for /generate that ignore ends of text."""
    marked = mark(source.requests(count, round_number), 100)
    return [one.body(marked=True) | {"stream": False} for one in marked]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1000, help="of output")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    options = parser.parse_args()
    console.print("hardware:", hardware())
    source = Source.of(PROMPT, str(options.tokens), None, seed=1)
    flags = Flags.of(source.model, (), (source.most_tokens + 256) * max(options.in_flight))
    rows = {}
    with ours(flags) as running, Connection(running.url, timeout_s=3600) as server:
        for count in options.in_flight:
            rounds = [requests(source, count, number) for number in range(options.rounds)]
            pairs = [measure(server, each) for each in rounds]
            rows[count] = {"generated_s": [a for a, _ in pairs], "checked_s": [b for _, b in pairs]}
    table = Table("in flight", "generated, s", "checked, s", "times as fast")
    for count, row in rows.items():
        pairs = list(zip(row["generated_s"], row["checked_s"], strict=True))
        shown = [[f"{s:.2f}" for s in each] for each in zip(*pairs, strict=True)]
        table.add_row(
            str(count), *map(", ".join, shown), ", ".join(f"{a / b:.1f}" for a, b in pairs)
        )
    console.print(table)
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "hardware": hardware(),
        **source.describe(),
        "rounds": options.rounds,
        "in_flight": rows,
    }
    if options.out:
        write_whole(options.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
