"""T, G and wait against throughput and recomputation: where the defaults come from.

    scripts/bench passes --out costs.json
    scripts/run python research/sweep.py costs.json [--out sweep.json]

Every setting serves two loads under the costs in that file: all requests deterministic, and half of
them. Protocol and policy are the real ones. No decode step is canonical, so every token is
verified. Without a file the costs are guesses for an 8B model on one H100 (simulator/costs.py).

Two things differ from a real server, so do not read waiting times out of this. The simulated server
prefills all prompts that wait before it decodes on. And its prefill passes verify due pages in
their free slots, which a real one with overlap scheduling can seldom do. The last line is JSON.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from simulator.costs import CostModel, cost_model
from simulator.report import simulate
from simulator.systems import System
from simulator.workload import Workload

from llm42_sglang.core.config import Config
from llm42_sglang.core.policy import LanePolicy
from llm42_sglang.files import write_whole

GROUPS = (1, 2, 4, 8, 16)
WAITS = (0, 4, 8, 16, 32)  # decode steps, at most T
SHOWN = 12  # rows of the table, besides the default's


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("costs", type=Path, nargs="?", help="JSON of `llm42 bench passes`")
    parser.add_argument("--requests", type=int, default=200, help="of each workload")
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--flip-rate", type=float, default=Workload().flip_rate)
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    arguments = parser.parse_args()
    models = measured(arguments.costs) if arguments.costs else guessed()
    everything = Workload(
        requests=arguments.requests,
        prompt_mean=272,
        output_mean=128,
        flip_rate=arguments.flip_rate,
    )
    rows = list(sweep(models, everything, arguments.in_flight))
    rows.sort(key=lambda row: -row["tokens_per_s"])
    default = Config()
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "costs_from": provenance(arguments.costs) if arguments.costs else None,
        "default": [default.page, default.group, default.wait],
        "costs": {page: asdict(model) for page, model in models.items()},
        "workload": asdict(everything),
        "in_flight": arguments.in_flight,
        "settings": rows,
    }
    print("costs from:", result["costs_from"] or "guesses, see simulator/costs.py")
    print("workload:", result["workload"])
    Console(width=140).print(table(rows))
    if arguments.out:
        write_whole(arguments.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def provenance(path: Path) -> dict[str, Any]:
    """The command that measured the costs, on what."""
    result = json.loads(path.read_text())
    return {"command": result["command"], "hardware": result["hardware"]}


def measured(path: Path) -> dict[int, CostModel]:
    """By T. A decode step costs the same whatever T is, so the least of the measured costs is taken
    for every T: the rest is what other users of the host took. Passes do differ with T, so they
    are taken as measured, with whatever the others took."""
    costs = json.loads(path.read_text())["costs_s"]
    decodes = [by["decode"] for by in costs.values()]
    decode = {
        rows: {context: min(one[rows][context] for one in decodes) for context in contexts}
        for rows, contexts in decodes[0].items()
    }
    return {int(page): cost_model(int(page), by | {"decode": decode}) for page, by in costs.items()}


def guessed() -> dict[int, CostModel]:
    """By T."""
    return dict.fromkeys((16, 32, 64), CostModel())


def sweep(
    models: dict[int, CostModel], everything: Workload, in_flight: int
) -> Iterator[dict[str, Any]]:
    """One row a setting: its throughput, and what it recomputes."""
    half = replace(everything, deterministic_share=0.5)
    for page, group, wait in product(models, GROUPS, WAITS):
        if wait > page:
            continue
        policy = LanePolicy(group, wait_steps=wait, run_ahead=wait)
        system = System("", page, policy, max_running=in_flight, narrow=True)
        alone = simulate(system, everything, models[page])
        mixed = simulate(system, half, models[page])
        yield {
            "page": page,
            "group": group,
            "wait": wait,
            "tokens_per_s": alone.output_tokens_per_s,
            "recompute_rate": alone.recompute_rate,
            "slots_per_pass": alone.slots_per_pass,
            "tokens_per_s_half": mixed.output_tokens_per_s,
        }


def table(rows: list[dict[str, Any]]) -> Table:
    """The best settings, and the default wherever it comes."""
    default = Config()
    best = rows[0]["tokens_per_s"]
    made = Table(title="all deterministic: output tokens/s over the best setting's")
    columns = ("place", "T", "G", "wait", "of best", "recompute %", "slots/pass")
    for column in (*columns, "half deterministic: tokens/s"):
        made.add_column(column, justify="right")
    for place, row in enumerate(rows, 1):
        shape = (row["page"], row["group"], row["wait"])
        if place > SHOWN and shape != (default.page, default.group, default.wait):
            continue
        made.add_row(
            str(place),
            *map(str, shape),
            f"{row['tokens_per_s'] / best:.3f}",
            f"{100 * row['recompute_rate']:.1f}",
            f"{row['slots_per_pass']:.1f}",
            f"{row['tokens_per_s_half']:.1f}",
        )
    return made


if __name__ == "__main__":
    main()
