"""The draws follow the exact distribution, for each option alone and for mixtures."""

from collections.abc import Callable
from math import inf

import pytest
import torch

from llm42_sglang.sampling import Plan, sample

from .chi_square import SUSPICIOUS_Z, chi_square_z
from .oracle import boundary_distance, distribution

DRAWS = 5000
# Tied pairs, one token that is masked, nothing rarer than a cell of chi-square needs.
LOGITS = [1.0, 2.5, 0.3, 2.5, -inf, 0.0, 1.7, 1.0, -0.5, 0.8, 2.0, 0.3]

PLANS = {
    "temperature 1": Plan(),
    "temperature 0.7": Plan(temperature=0.7),
    "temperature 3": Plan(temperature=3.0),
    "top-k": Plan(top_k=5),
    "top-k at a tie": Plan(top_k=6),
    "top-p": Plan(top_p=0.83),
    "min-p": Plan(min_p=0.2),
    "top-k and top-p": Plan(top_k=4, top_p=0.9),
    "top-k and min-p": Plan(top_k=7, min_p=0.25),
    "top-p and min-p": Plan(temperature=1.5, top_p=0.8, min_p=0.3),
    "all": Plan(temperature=0.8, top_k=7, top_p=0.97, min_p=0.15),
}


def z_of(draw: Callable[[int], int], plan: Plan) -> float:
    """chi_square_z of `draw(0..DRAWS-1)` against the plan's distribution."""
    counts = [0] * len(LOGITS)
    for i in range(DRAWS):
        counts[draw(i)] += 1
    return chi_square_z(counts, distribution(LOGITS, plan))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_over_positions(plan: Plan):
    assert boundary_distance(LOGITS, plan) > 1e-3, "rounding would decide: a bad example"
    row = torch.tensor(LOGITS)
    assert z_of(lambda i: sample(row, plan, i), plan) < SUSPICIOUS_Z


@pytest.mark.parametrize("position", [0, 31, 4096])
def test_over_seeds(position: int):
    """Clients count their seeds up from 0 or 1, and ask for one token each."""
    row = torch.tensor(LOGITS)
    z = z_of(lambda i: sample(row, Plan(seed=i), position), Plan())
    assert z < SUSPICIOUS_Z


@pytest.mark.parametrize(
    ("drawn", "claimed"),
    [
        (Plan(temperature=0.8), Plan()),
        (Plan(temperature=0.8, top_k=7, top_p=0.97), PLANS["all"]),
        (Plan(top_k=4), PLANS["top-k"]),
        (Plan(top_k=6), PLANS["top-k"]),
        (Plan(top_p=0.9), PLANS["top-p"]),
        (Plan(), PLANS["min-p"]),
        (Plan(top_k=1), Plan()),
    ],
)
def test_the_wrong_plan_is_noticed(drawn: Plan, claimed: Plan):
    row = torch.tensor(LOGITS)
    assert z_of(lambda i: sample(row, drawn, i), claimed) > SUSPICIOUS_Z


def test_the_wrong_noise_is_noticed():
    """Normal noise instead of Gumbel's: nearly the same shape, another distribution."""
    row, generator = torch.tensor(LOGITS), torch.Generator().manual_seed(0)

    def draw(_: int) -> int:
        return int((row + 1.28 * torch.randn(len(LOGITS), generator=generator)).argmax())

    assert z_of(draw, Plan()) > SUSPICIOUS_Z


def test_a_wide_vocabulary():
    """Beyond one vector register and one thread's share: 50 classes of 1000 tokens each."""
    plan = Plan(temperature=0.9, seed=-1)
    of_class = torch.linspace(0, 2, 50)
    row = of_class.repeat(1000)  # token i is of class i % 50
    counts = [0] * 50
    for position in range(1500):
        counts[sample(row, plan, position) % 50] += 1
    assert chi_square_z(counts, (of_class / 0.9).softmax(0).tolist()) < SUSPICIOUS_Z
