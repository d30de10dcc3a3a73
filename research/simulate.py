"""This project's policy against LLM-42's, and what canonical steps save, in a simulated server.

    scripts/run python research/simulate.py [--requests 300] [--out sim.json] [--plot windows.png]

Protocol and policy are the real ones, costs are modelled. The script prints the cost model, and
each workload above its table. The last line is JSON, in seconds and tokens.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from simulator.costs import CostModel
from simulator.report import Latency, Report, simulate
from simulator.systems import (
    ABLATION,
    PAPER_RECOMPUTE,
    ours,
    sliding,
    synchronous,
    with_steps,
    without_run_ahead,
)
from simulator.workload import Workload

from llm42_sglang.files import replacing, write_whole

COUNTS = ("tok/s", "recompute %", "per output %", "steps %", "passes", "slots", "verify %")
CERTIFIABLE = 64  # requests of a decode step; certification examines no larger ones
LATENCIES = ("TTFT ms", "gap ms", "ms/token")
console = Console(width=180)  # also where the output is a file


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=300, help="of each workload")
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    parser.add_argument("--plot", type=Path, help="draw window x group here")
    arguments = parser.parse_args()
    offline = Workload(requests=arguments.requests)
    online = replace(offline, rate_per_s=12.0, deterministic_share=0.5)
    long = replace(offline, output_mean=1024)
    system = ours(32, 16)
    ordinary = replace(system, name="ordinary serving")
    steps = [with_steps(system, most) for most in (CERTIFIABLE, system.max_running)]
    systems = [system, *steps, without_run_ahead(system), synchronous(32), synchronous(256)]
    print("cost model (guesses, see simulator/costs.py):", asdict(CostModel()))
    runs = {
        "offline, all deterministic": (offline, systems),
        "offline, none deterministic": (replace(offline, deterministic_share=0), [ordinary]),
        "online, half deterministic": (online, systems),
        "window x group": (long, [make(*shape) for shape in ABLATION for make in (ours, sliding)]),
    }
    results = {}
    for title, (workload, compared) in runs.items():
        print("\nworkload:", asdict(workload))
        reports = [simulate(system, workload) for system in compared]
        console.print(table(title, reports))
        results[title] = {"workload": asdict(workload), "reports": [asdict(r) for r in reports]}
    measured = ", ".join(f"{100 * rate:.1f}" for rate in PAPER_RECOMPUTE)
    print(f"LLM-42 measured, per output % in the same order: {measured}")
    if arguments.plot:
        plot(arguments.plot, reports)
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "costs": asdict(CostModel()),
        "paper_recompute_per_output": PAPER_RECOMPUTE,
        "runs": results,
    }
    if arguments.out:
        write_whole(arguments.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def table(title: str, reports: Sequence[Report]) -> Table:
    """One row a system; the latencies of a kind of request only where there is one."""
    kinds = [k for k in ("deterministic", "ordinary") if getattr(reports[0], k).requests]
    made = Table(title=f"{title} (latencies: p50 / p99)")
    made.add_column("system", no_wrap=True)
    for column in (*COUNTS, *(f"{kind[:3]}. {name}" for kind in kinds for name in LATENCIES)):
        made.add_column(column, justify="right")
    for report in reports:
        made.add_row(
            report.system,
            f"{report.output_tokens_per_s:.0f}",
            f"{100 * report.recompute_rate:.1f}",
            f"{100 * report.recompute_per_output:.1f}",
            f"{100 * report.canonical_step_rate:.1f}",
            str(report.verify_passes),
            f"{report.slots_per_pass:.1f}",
            f"{100 * report.verify_share:.0f}",
            *(cell for kind in kinds for cell in latencies(getattr(report, kind))),
        )
    return made


def latencies(seen: Latency) -> list[str]:
    """Milliseconds."""
    pairs = (
        (seen.ttft_p50_s, seen.ttft_p99_s),
        (seen.gap_p50_s, seen.gap_p99_s),
        (seen.per_token_p50_s, seen.per_token_p99_s),
    )
    return [f"{1e3 * p50:.0f} / {1e3 * p99:.0f}" for p50, p99 in pairs]


def plot(path: Path, reports: Sequence[Report]) -> None:
    """Throughput and recompute by window x group; `reports` alternate aligned and sliding."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (speed, recompute) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    shapes = [f"{window}x{group}" for window, group in ABLATION]
    for label, part in (("aligned pages", reports[::2]), ("sliding windows", reports[1::2])):
        speed.plot(shapes, [r.output_tokens_per_s for r in part], marker="o", label=label)
        rates = [100 * r.recompute_per_output for r in part]
        recompute.plot(shapes, rates, marker="o", label=label)
    paper = [100 * rate for rate in PAPER_RECOMPUTE]
    recompute.plot(shapes, paper, "k--", marker="x", label="LLM-42, measured")
    speed.set(xlabel="window x group", ylabel="output tokens per second (modelled)", ylim=(0, None))
    recompute.set(xlabel="window x group", ylabel="tokens recomputed per output token, %")
    for axes in (speed, recompute):
        axes.legend()
    with replacing(path) as new:
        figure.savefig(new, dpi=150, format="png")


if __name__ == "__main__":
    main()
