"""Log probabilities of one row.

The logprobs of a deterministic request are log_softmax of the raw canonical logits, before
temperature, penalties, bias and masks. So they do not depend on how the token was chosen. Scoring
prompt and output as a prompt gives the bits that generating the output gave.

Stock SGLang does the same for prompt tokens. For output tokens it applies temperature and the rest,
unless SGLANG_RETURN_ORIGINAL_LOGPROB is set.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from llm42_sglang.sampling.ranking import top_ids


class TopLogprobs(NamedTuple):
    """The most likely tokens of a row, the most likely first."""

    values: torch.Tensor  # [k] float32
    ids: torch.Tensor  # [k] int64


def logprobs(logits: torch.Tensor) -> torch.Tensor:
    """Return the log probabilities of a row: [vocab] float32.

    logits: [vocab], a view of any stride. A token with logit -inf gets the lowest finite float32,
    as in SGLang, because JSON has no infinity.
    """
    assert logits.dim() == 1, f"one row, not {tuple(logits.shape)}"
    # A fresh copy, because softmax kernels choose their order of summation by address and stride.
    row = logits.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    return row.log_softmax(dim=0).clamp_(min=torch.finfo(torch.float32).min)


def top_logprobs(row: torch.Tensor, k: int) -> TopLogprobs:
    """Return the k largest log probabilities of a row, the lowest id first among equals.

    row: [vocab] float32, from `logprobs`. NaN, from a model that failed, sorts as the lowest value.
    """
    ids = top_ids(row.nan_to_num(nan=float("-inf")), k)
    return TopLogprobs(row[ids], ids)


def token_logprobs(row: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """Return the values of n token ids, in their order: [n] float32. row: [vocab] float32."""
    return row[torch.tensor(ids, dtype=torch.int64, device=row.device)]
