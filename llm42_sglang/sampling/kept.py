"""The token ids that top-k, top-p and min-p leave in the draw.

The meaning is SGLang's (`top_k_top_p_min_p_sampling_from_probs_torch`): every rule looks at the
softmax of the whole row at the request's temperature, none renormalises for the next. In order of
falling probability, the lowest id first among equals, a token is dropped when
    top-k   its rank, counted from 0, is k or more
    top-p   the tokens before it already hold more than p of the mass
    min-p   its probability is below min_p times the largest one

Mass is added up in integers. A sum of floats has as many results as orders to add in, and a
parallel prefix sum on a GPU chooses its order anew at every run; integers have one result.
"""

from fractions import Fraction
from math import log

import torch

from llm42_sglang.sampling.plan import Plan
from llm42_sglang.sampling.ranking import top_ids

_NUCLEUS_GUESS = 1024  # tokens; a nucleus is rarely larger, and a full sort is 15 times slower
_NUCLEUS_GROWTH = 8


def kept_ids(logits: torch.Tensor, shifted: torch.Tensor, plan: Plan) -> torch.Tensor | None:
    """Ids [n] of the tokens in the draw, n >= 1, in no particular order; None for all of them.

    logits: [vocab], no NaN, the largest one finite.
    shifted: [vocab] float64, (logits - largest) / temperature: log probabilities up to a constant.
    """
    ids = _most_likely(logits, shifted, plan)
    if plan.min_p == 0:
        return ids
    floor = log(plan.min_p)  # the largest has shifted 0
    if ids is None:
        return (shifted >= floor).nonzero().squeeze(1)
    return ids[shifted[ids] >= floor]


def _most_likely(logits: torch.Tensor, shifted: torch.Tensor, plan: Plan) -> torch.Tensor | None:
    """What top-k and top-p keep, most likely first; None for everything."""
    k = min(plan.top_k, logits.numel())
    if plan.top_p < 1:
        return _nucleus(logits, fixed_point(shifted), plan.top_p, k)
    return top_ids(logits, k) if k < logits.numel() else None


def _nucleus(logits: torch.Tensor, mass: torch.Tensor, top_p: float, k: int) -> torch.Tensor:
    """Of the k most likely tokens, those with at most top_p of the mass before them."""
    limit = int(Fraction(top_p) * int(mass.sum()))  # exact; mass is whole, so floor is right
    guess = min(k, _NUCLEUS_GUESS)
    while int(mass[ids := top_ids(logits, guess)].sum()) <= limit and guess < k:
        guess = min(k, guess * _NUCLEUS_GROWTH)
    own = mass[ids]
    before = own.cumsum(0) - own
    return ids[before <= limit]


def fixed_point(shifted: torch.Tensor) -> torch.Tensor:
    """exp(shifted) as whole numbers, scaled so that the sum of the row fits: [vocab] int64.

    The unit is 2^-46 of the largest token's mass for a vocabulary of 49152, 2^-44 for 152k.
    """
    unit_bits = 62 - shifted.numel().bit_length()
    return shifted.exp().mul_(2.0**unit_bits).long()
