"""The draw from one row: a function of its logits, its plan and its position.

No operation here takes a second row, and none adds up floats. There is only elementwise arithmetic,
comparison, and sums of integers. So neither the batch nor any order of work can change the result.
"""

import torch

from llm42_sglang.sampling.kept import kept_ids
from llm42_sglang.sampling.noise import gumbel, gumbel_at
from llm42_sglang.sampling.plan import Plan
from llm42_sglang.sampling.ranking import NO_TOKEN, greedy


def sample(logits: torch.Tensor, plan: Plan, position: int) -> int:
    """Return the token id drawn from one row, or NO_TOKEN from a row that allows no draw.

    logits: [vocab] float32, a view of any stride; -inf for tokens that must not be drawn.
    position: the absolute position of the token to draw; with plan.seed it selects the noise.
    NO_TOKEN is returned if the row has a NaN, or nothing but -inf, or (unless greedy) a +inf.

    The method is Gumbel-max: add Gumbel noise to the log probabilities and take the largest. That
    is a draw from the distribution, and the probabilities need no normalisation.
    """
    assert logits.dim() == 1, f"one row, not {tuple(logits.shape)}"
    if plan.greedy:
        return int(greedy(logits.unsqueeze(0)))
    # A fresh copy, because some kernels treat an odd address or stride differently.
    row = logits.to(torch.float64, memory_format=torch.contiguous_format, copy=True)
    largest = row.max()  # NaN wins
    if not largest.isfinite():
        return NO_TOKEN
    shifted = row.sub_(largest).div_(plan.temperature)
    ids = kept_ids(logits, shifted, plan)
    if ids is None:
        return int(_first_largest(gumbel(plan.seed, position, row.numel(), row.device) + shifted))
    ids = ids.sort().values  # so that the lowest id wins a tie
    return int(ids[_first_largest(gumbel_at(plan.seed, position, ids) + shifted[ids])])


def _first_largest(scores: torch.Tensor) -> torch.Tensor:
    return greedy(scores.unsqueeze(0))
