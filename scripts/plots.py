"""The pictures of README.md and docs/performance.md, from what benchmarks wrote to docs/results.

Usage: scripts/run python scripts/plots.py
"""

import json
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import matplotlib

from llm42_sglang.files import replacing
from scripts.results import RESULTS

matplotlib.use("Agg")


def throughput(axes: Sequence[Any], result: Mapping[str, Any]) -> None:
    """Speeds on the left, ratios with their range on the right; evenly spaced shares."""
    speeds, ratios = result["tokens_per_s"], result["ratios_to_stock"]
    left, right = axes
    shares = list(ratios)
    for name in ("stock", "llm42"):
        left.plot(shares, [median(speeds[name][share]) for share in shares], "o-", label=name)
    if speeds["serial"]:
        serial = median(speeds["serial"])
        left.axhline(serial, color="grey", linestyle="--", label="one at a time")
    left.set(ylabel="output tokens per second", ylim=(0, None))
    left.legend()
    for share in shares:
        right.plot([share] * len(ratios[share]), ratios[share], "C0_-")
    right.plot(shares, [result["ratio_to_stock"][share] for share in shares], "C0o-")
    right.axhline(1, color="grey", linestyle="--")
    right.set(ylabel="llm42 / stock, median and range over rounds", ylim=(0, None))
    for panel in axes:
        panel.set(xlabel="deterministic requests, %")


def passes(axes: Sequence[Any], result: Mapping[str, Any]) -> None:
    """Passes by rows, decode steps by requests; a line for each page or context."""
    for panel, kind, place_name in zip(axes, ("pass", "decode"), ("page", "context"), strict=True):
        lines: dict[str, list[tuple[int, float]]] = {}
        for page, kinds in result["costs_s"].items():
            rows_each = int(page) if kind == "pass" else 1
            for width, places in kinds[kind].items():
                for place, seconds in places.items():
                    line = lines.setdefault(f"T = {page}, {place_name} {place}", [])
                    line.append((int(width) * rows_each, 1e3 * seconds))
        for label, points in lines.items():
            panel.plot(*zip(*sorted(points), strict=True), marker="o", label=label)
        rows = "rows of a canonical pass" if kind == "pass" else "requests of a decode step"
        panel.set(xlabel=rows, ylabel="ms", ylim=(0, None))
        panel.legend(fontsize="x-small")


def main() -> None:
    """Draw a PNG of two panels for each."""
    from matplotlib import pyplot

    for draw in (throughput, passes):
        result = json.loads((RESULTS / f"{draw.__name__}.json").read_text(encoding="utf-8"))
        figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
        draw(list(axes), result)
        with replacing(RESULTS / f"{draw.__name__}.png") as new:
            figure.savefig(new, dpi=150, format="png")


if __name__ == "__main__":
    main()
