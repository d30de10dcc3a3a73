"""The picture of README.md and docs/performance.md, from docs/results/throughput.json.

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
    right.set(ylabel="llm42 over stock, median and range of the rounds", ylim=(0, None))
    for panel in axes:
        panel.set(xlabel="deterministic requests, %")


def main() -> None:
    """Draw a PNG of two panels."""
    from matplotlib import pyplot

    result = json.loads((RESULTS / "throughput.json").read_text(encoding="utf-8"))
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    throughput(list(axes), result)
    with replacing(RESULTS / "throughput.png") as new:
        figure.savefig(new, dpi=150, format="png")


if __name__ == "__main__":
    main()
