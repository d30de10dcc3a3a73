"""Log probabilities of one row.

A deterministic request's logprobs are the model's own: log_softmax of the raw canonical logits,
before temperature, penalties, bias and masks. Then they do not depend on how the token was chosen,
and scoring prompt + output as a prompt gives the bits that generating the output gave.
(Stock SGLang does so for prompt tokens, and for output tokens applies temperature and the rest
unless SGLANG_RETURN_ORIGINAL_LOGPROB is set.)
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from llm42_sglang.sampling.ranking import top_ids


class TopLogprobs(NamedTuple):
    """The most likely tokens of a row, most likely first."""

    values: torch.Tensor  # [k] float32
    ids: torch.Tensor  # [k] int64


def logprobs(logits: torch.Tensor) -> torch.Tensor:
    """logits: [vocab], a view of any stride; returns [vocab] float32.

    A token with logit -inf gets the lowest finite float32, as in SGLang: JSON has no infinity.
    """
    assert logits.dim() == 1, f"one row, not {tuple(logits.shape)}"
    # A fresh copy: softmax kernels choose their order of summation by address and stride too.
    row = logits.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    return row.log_softmax(dim=0).clamp_(min=torch.finfo(torch.float32).min)


def top_logprobs(row: torch.Tensor, k: int) -> TopLogprobs:
    """The k largest of `logprobs`'s result, the lowest id first among equals.

    row: [vocab] float32; NaN (a row of a failed model) sorts as the lowest value.
    """
    ids = top_ids(row.nan_to_num(nan=float("-inf")), k)
    return TopLogprobs(row[ids], ids)


def token_logprobs(row: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """The values of some token ids, in their order. row: [vocab] float32; returns [n] float32."""
    return row[torch.tensor(ids, dtype=torch.int64, device=row.device)]
