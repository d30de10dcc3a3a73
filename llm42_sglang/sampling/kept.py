"""The token ids that top-k, top-p and min-p leave in the draw.

The meaning is that of SGLang's `top_k_top_p_min_p_sampling_from_probs_torch`. Every rule looks at
the softmax of the whole row at the request's temperature; none renormalises for the next. Tokens
are ranked by falling probability, the lowest id first among equals. A token is dropped when
    top-k   its rank, counted from 0, is k or more
    top-p   the probabilities before it already sum to more than p
    min-p   its probability is below min_p times the largest one

Probabilities are summed as integers. A sum of floats depends on the order of its terms, and a
parallel prefix sum on a GPU may choose another order at every run. A sum of integers does not.
"""

from fractions import Fraction
from math import log

import torch

from llm42_sglang.sampling.plan import Plan
from llm42_sglang.sampling.ranking import top_ids

_NUCLEUS_GUESS = 1024  # tokens that top-p rarely exceeds; a full sort is 15 times slower
_NUCLEUS_GROWTH = 8


def kept_ids(logits: torch.Tensor, shifted: torch.Tensor, plan: Plan) -> torch.Tensor | None:
    """Return the ids of the tokens in the draw, in any order: [n], n >= 1. None means all tokens.

    logits: [vocab], without NaN, the largest one finite.
    shifted: [vocab] float64, (logits - largest) / temperature. These are the log probabilities up
        to a constant.
    """
    ids = _most_likely(logits, shifted, plan)
    if plan.min_p == 0:
        return ids
    floor = log(plan.min_p)  # for the largest logit `shifted` is 0
    if ids is None:
        return (shifted >= floor).nonzero().squeeze(1)
    return ids[shifted[ids] >= floor]


def _most_likely(logits: torch.Tensor, shifted: torch.Tensor, plan: Plan) -> torch.Tensor | None:
    """Return the ids that top-k and top-p keep, the most likely first; None means all tokens."""
    k = min(plan.top_k, logits.numel())
    if plan.top_p < 1:
        return _nucleus(logits, fixed_point(shifted), plan.top_p, k)
    return top_ids(logits, k) if k < logits.numel() else None


def _nucleus(logits: torch.Tensor, mass: torch.Tensor, top_p: float, k: int) -> torch.Tensor:
    """Return those of the k most likely ids before which the mass is at most top_p."""
    limit = int(Fraction(top_p) * int(mass.sum()))  # exact, for mass is in whole numbers
    guess = min(k, _NUCLEUS_GUESS)
    while int(mass[ids := top_ids(logits, guess)].sum()) <= limit and guess < k:
        guess = min(k, guess * _NUCLEUS_GROWTH)
    masses = mass[ids]
    mass_before = masses.cumsum(0) - masses
    return ids[mass_before <= limit]


def fixed_point(shifted: torch.Tensor) -> torch.Tensor:
    """Return exp(shifted) in whole numbers, scaled so that the row's sum fits: [vocab] int64.

    The unit is 2^-46 of the largest mass for a vocabulary of 49152, and 2^-44 for 152k.
    """
    unit_bits = 62 - shifted.numel().bit_length()
    return shifted.exp().mul_(2.0**unit_bits).long()
