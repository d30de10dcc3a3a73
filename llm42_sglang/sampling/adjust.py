"""Penalties, grammar mask and bias, for one row.

Meaning and order are those of SGLang's `SamplingBatchInfo.apply_logits_bias`: first the additive
penalties (frequency, presence, min_new_tokens), then the repetition penalty, the mask, the bias. As
there, penalties depend on output tokens and not on the prompt.

SGLang keeps a running sum of penalties. Here the tokens of the output are counted anew for every
row. So there is no state that a rollback would have to undo, or a retraction would lose.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import TypeAlias

import torch

Mask: TypeAlias = torch.Tensor | Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Adjustments:
    """The changes that one request makes to its logits.

    Raises ValueError for a bias of NaN or +inf.
    """

    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    stop_ids: frozenset[int] = frozenset()  # not drawn before min_new_tokens outputs
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, bias), ids distinct

    def __post_init__(self) -> None:
        for token, bias in self.logit_bias:
            if not (isfinite(bias) or bias == -inf):
                raise ValueError(f"logit_bias of token {token} must be a number, not {bias}")

    @property
    def penalizing(self) -> bool:
        """Whether output tokens change the logits of later rows."""
        additive = self.frequency_penalty != 0 or self.presence_penalty != 0
        return additive or self.repetition_penalty != 1

    @property
    def neutral(self) -> bool:
        """Whether rows stay as they are."""
        delays_stop = self.min_new_tokens > 0 and bool(self.stop_ids)
        return not (self.penalizing or delays_stop or self.logit_bias)


def bias_pairs(logit_bias: Mapping[str, float] | None) -> tuple[tuple[int, float], ...]:
    """Return `logit_bias` as pairs. If two keys spell one id ("1", "01"), the last one wins."""
    return tuple({int(token): float(bias) for token, bias in (logit_bias or {}).items()}.items())


def adjust(
    logits: torch.Tensor,
    adjustments: Adjustments,
    output_ids: Sequence[int],
    mask: Mask | None = None,
) -> torch.Tensor:
    """Return the row to sample from: [vocab] float32. If nothing changes, it is `logits` itself.

    logits: [vocab] float32, the raw row, which is never written to.
    output_ids: the request's output tokens before the position to be drawn.
    mask: [vocab] bool, True where the grammar allows a token. Or a function that takes a row, may
        write to it, and returns the masked row.
    """
    assert logits.dim() == 1, f"one row, not {tuple(logits.shape)}"
    if adjustments.neutral and mask is None:
        return logits
    row = logits.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    _penalize_(row, adjustments, output_ids)
    if mask is not None:
        row = mask(row) if callable(mask) else row.masked_fill_(~mask, -inf)
    if adjustments.logit_bias:
        ids, values = zip(*adjustments.logit_bias, strict=True)
        row[_ids(row, ids)] += torch.tensor(values, dtype=row.dtype, device=row.device)
    return row


def _penalize_(row: torch.Tensor, adjustments: Adjustments, output_ids: Sequence[int]) -> None:
    """Apply the additive penalties, then the repetition penalty, in place."""
    counts = Counter(output_ids) if adjustments.penalizing else {}
    ids = _ids(row, list(counts))  # [n], the distinct output tokens
    if counts:
        times = torch.tensor(list(counts.values()), dtype=row.dtype, device=row.device)
        row[ids] += (times * -adjustments.frequency_penalty).sub_(adjustments.presence_penalty)
    if len(output_ids) < adjustments.min_new_tokens:
        stop_ids = [token for token in adjustments.stop_ids if 0 <= token < row.numel()]
        row[_ids(row, stop_ids)] += -inf  # added, not set, so that a NaN stays one
    if counts and adjustments.repetition_penalty != 1:
        row[ids] = _scaled(row[ids], adjustments.repetition_penalty)


def _scaled(values: torch.Tensor, penalty: float) -> torch.Tensor:
    """Return the values made less likely by a factor: SGLang's `apply_scaling_penalties`."""
    factor = torch.full_like(values, penalty)  # a tensor: by a scalar, CUDA multiplies by 1/x
    return torch.where(values < 0, values * factor, values / factor)


def _ids(row: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    return torch.tensor(ids, dtype=torch.int64, device=row.device)
