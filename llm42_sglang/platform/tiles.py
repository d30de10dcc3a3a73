"""bf16 linears on hosts with tiles (AMX): canonical passes compute them 32 rows at a time.

There oneDNN has one kernel for up to 32 rows, and another one from 33 rows on, which sums in
another order. (This was measured on a Xeon, with SmolLM2-135M: 848 decode rows of 1 to 32 rows had
the bits of a pass of one slot, and 267 of 292 rows of larger steps did not.) A pass has up to
G x T = 512 rows. So it would have other bits than every decode step, and all candidates would be
rolled back.

In a pass, and only there, a linear is computed 32 rows at a time. Then passes of all widths have
the bits of decode steps of up to 32 rows, so these can be certified as canonical. The price is a
linear that takes 1.3 to 2.7 times as long (over 256 rows). Certification decides, as ever.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from sglang.srt.layers.quantization.unquant import (
    UnquantizedEmbeddingMethod,
    UnquantizedLinearMethod,
)

from llm42_sglang.platform.linear import mixtures_of, unquantized_layers

logger = logging.getLogger(__name__)

ROWS = 32  # the most that oneDNN's kernel for few rows takes

_few_at_a_time = False  # one is enough, because the scheduler has a single thread


@contextmanager
def few_rows_at_a_time() -> Iterator[None]:
    """While active, layers of `use_one_kernel` compute at most ROWS rows at a time."""
    global _few_at_a_time
    _few_at_a_time = True
    try:
        yield
    finally:
        _few_at_a_time = False


def tiled_linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Return y = x @ W.T + b: [..., out]. x: [..., in]; weight: [out, in]; bias: [out]."""
    if not _few_at_a_time:
        return F.linear(x, weight, bias)
    parts = x.reshape(-1, x.shape[-1]).split(ROWS)
    y = torch.cat([F.linear(part, weight, bias) for part in parts])
    return y.view(*x.shape[:-1], len(weight))


class TiledLinear(UnquantizedLinearMethod):
    """A linear layer in the dtype of its weights."""

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return y: [..., out]. x: [..., in]."""
        return tiled_linear(x, layer.weight, bias)


class TiledEmbedding(UnquantizedEmbeddingMethod):
    """An embedding, or a language-model head, in the dtype of its weights."""

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return logits, as a language-model head: [rows, vocab]. x: [rows, hidden]."""
        return tiled_linear(x.to(layer.weight.dtype), layer.weight, bias)


def use_one_kernel(model: torch.nn.Module) -> None:
    """Have canonical passes of a model use oneDNN's kernel for few rows in each bf16 layer.

    A model with experts is left alone: none of its decode steps is canonical on a CPU, so that its
    passes would be slower for nothing. A head that multiplies in fp32 (--enable-fp32-lm-head) is
    left to SGLang.
    """
    if mixtures_of(model):
        return
    keeps_head = any(getattr(each, "use_fp32_lm_head", False) for each in model.modules())
    layers = [one for one in unquantized_layers(model) if one.weight.dtype == torch.bfloat16]
    for layer in layers:
        if type(layer.quant_method) is UnquantizedLinearMethod:
            layer.quant_method = TiledLinear()
        elif not keeps_head:
            layer.quant_method = TiledEmbedding()
    logger.info("llm42: bf16 layers compute at most %d rows at a time in passes", ROWS)
