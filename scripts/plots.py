"""The picture of README.md and docs/performance.md: speeds as `llm42 bench throughput` found them,
and ratios as `research/turns.py` did.

Usage: scripts/run python scripts/plots.py
"""

import json
from collections.abc import Mapping
from statistics import median
from typing import Any

import matplotlib

from llm42_sglang.files import replacing
from scripts.results import RESULTS

matplotlib.use("Agg")


def throughput(left: Any, result: Mapping[str, Any]) -> None:
    """Speeds at evenly spaced shares."""
    speeds, shares = result["tokens_per_s"], list(result["ratios_to_stock"])
    for name in ("stock", "llm42"):
        left.plot(shares, [median(speeds[name][share]) for share in shares], "o-", label=name)
    if speeds["serial"]:
        serial = median(speeds["serial"])
        left.axhline(serial, color="grey", linestyle="--", label="one at a time")
    left.set(title="llm42 bench throughput", ylabel="output tokens per second", ylim=(0, None))
    left.legend()


def turns(right: Any, result: Mapping[str, Any]) -> None:
    """Ratios with their range."""
    ratios = result["ratios_to_stock"]
    shares = list(ratios)
    for share in shares:
        right.plot([share] * len(ratios[share]), ratios[share], "C0_-")
    right.plot(shares, [result["ratio_to_stock"][share] for share in shares], "C0o-")
    right.axhline(1, color="grey", linestyle="--")
    right.set(title="research/turns.py", ylabel="llm42 over stock, median and range", ylim=(0, 1.2))


def main() -> None:
    """Draw a PNG of two panels."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for panel, draw in zip(axes, (throughput, turns), strict=True):
        draw(panel, json.loads((RESULTS / f"{draw.__name__}.json").read_text(encoding="utf-8")))
        panel.set(xlabel="deterministic requests, %")
    with replacing(RESULTS / "throughput.png") as new:
        figure.savefig(new, dpi=150, format="png")


if __name__ == "__main__":
    main()
