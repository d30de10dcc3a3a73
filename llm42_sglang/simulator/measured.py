"""Costs that a server has measured of itself (`--llm42-tune`), as a cost model."""

from collections.abc import Mapping
from statistics import mean

from llm42_sglang.simulator.costs import CostModel

# Seconds: "pass" by slots and page index, "decode" by requests and context.
Costs = Mapping[str, Mapping[str, Mapping[str, float]]]


def cost_model(page: int, costs: Costs) -> CostModel:
    """Straight lines through the means over pages and contexts; page: T of the measured passes."""
    decode = {int(requests): mean(by.values()) for requests, by in costs["decode"].items()}
    passes = {int(slots) * page: mean(by.values()) for slots, by in costs["pass"].items()}
    return CostModel.through(decode, passes)
