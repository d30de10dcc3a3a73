"""The draw for one row: a function of its logits, its plan and its position.

No operation here takes a second row, and none adds up floats: what is left is elementwise
arithmetic, comparisons, and integer sums. So no batch, order or scheduling can reach the result.
"""

import torch

from llm42_sglang.sampling.kept import kept_ids
from llm42_sglang.sampling.noise import gumbel, gumbel_at
from llm42_sglang.sampling.plan import Plan
from llm42_sglang.sampling.ranking import NO_TOKEN, greedy


def sample(logits: torch.Tensor, plan: Plan, position: int) -> int:
    """The token id drawn from one row, or NO_TOKEN from a row that allows no draw.

    logits: [vocab] float32, a view of any stride; -inf for tokens that must not be drawn.
    position: absolute position of the token drawn; with plan.seed it selects the noise.
    NO_TOKEN: the row holds a NaN, or nothing but -inf, or (unless greedy) a +inf.

    Gumbel-max: the largest of log probability plus Gumbel noise is a draw from the distribution,
    and needs no normalised probabilities.
    """
    assert logits.dim() == 1, f"one row, not {tuple(logits.shape)}"
    if plan.greedy:
        return int(greedy(logits.unsqueeze(0)))
    # A fresh copy: some kernels treat an odd address or stride differently.
    row = logits.to(torch.float64, memory_format=torch.contiguous_format, copy=True)
    largest = row.max()  # NaN wins
    if not largest.isfinite():
        return NO_TOKEN
    shifted = row.sub_(largest).div_(plan.temperature)
    ids = kept_ids(logits, shifted, plan)
    if ids is None:
        return int(_first_largest(gumbel(plan.seed, position, row.numel(), row.device) + shifted))
    ids = ids.sort().values  # equal scores: the lowest id
    return int(ids[_first_largest(gumbel_at(plan.seed, position, ids) + shifted[ids])])


def _first_largest(scores: torch.Tensor) -> torch.Tensor:
    return greedy(scores.unsqueeze(0))
