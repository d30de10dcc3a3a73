"""A model's operators, one row in and one row out, as a plain CPU computes them here.

Shapes are SmolLM2-135M's. A linear has fp32 weights and bf16 activations (`platform.linear`), norm,
rotary and activation are SGLang's native forwards, probabilities are taken from fp32 logits.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F

from llm42_sglang.platform.gemm import fp32_linear

HIDDEN, QKV, INTERMEDIATE, VOCABULARY = 576, 960, 1536, 49152
HEADS, HEAD_DIM = 9, 64
POSITION = 100  # of the rotary's rows


class RowOperator(NamedTuple):
    """`run`: [rows, width] in `dtype` -> [rows, ...], each row from its own row."""

    name: str
    width: int
    dtype: torch.dtype
    run: Callable[[torch.Tensor], torch.Tensor]


def row_operators() -> list[RowOperator]:
    """Weights are random, the same every time."""
    bf16, fp32 = torch.bfloat16, torch.float32
    return [
        *_linears("linear q, k, v", HIDDEN, QKV),
        *_linears("linear o", HIDDEN, HIDDEN),
        *_linears("linear gate, up", HIDDEN, 2 * INTERMEDIATE),
        *_linears("linear down", INTERMEDIATE, HIDDEN),
        RowOperator("linear gate, up, bf16 weights", HIDDEN, bf16, _native()),
        RowOperator("lm head, fp32 logits", HIDDEN, bf16, _head()),
        RowOperator("RMSNorm", HIDDEN, bf16, _rms_norm),
        RowOperator("rotary", HEADS * HEAD_DIM, bf16, _rotary),
        RowOperator("silu and mul", 2 * INTERMEDIATE, bf16, _silu_mul),
        RowOperator("softmax", VOCABULARY, fp32, lambda x: torch.softmax(x, -1)),
        RowOperator("log_softmax", VOCABULARY, fp32, lambda x: torch.log_softmax(x, -1)),
        RowOperator("argmax", VOCABULARY, fp32, lambda x: x.argmax(-1, keepdim=True)),
    ]


def _weight(rows: int, columns: int) -> torch.Tensor:
    dice = torch.Generator().manual_seed(rows * 100_003 + columns)
    return torch.randn(rows, columns, generator=dice) / columns**0.5


def _linears(name: str, inputs: int, outputs: int) -> Iterator[RowOperator]:
    """Twice: rounding to bf16 hides most differences of the sums, and lets a few through."""
    weight = _weight(outputs, inputs)

    def sums(x: torch.Tensor) -> torch.Tensor:
        return fp32_linear(x, weight)

    yield RowOperator(f"{name}: fp32 sums", inputs, torch.bfloat16, sums)
    yield RowOperator(f"{name}: rounded", inputs, torch.bfloat16, lambda x: sums(x).to(x.dtype))


def _native() -> Callable[[torch.Tensor], torch.Tensor]:
    weight = _weight(2 * INTERMEDIATE, HIDDEN).bfloat16()
    return lambda x: F.linear(x, weight)


def _head() -> Callable[[torch.Tensor], torch.Tensor]:
    weight = _weight(VOCABULARY, HIDDEN)
    return lambda x: fp32_linear(x, weight)


def _rms_norm(x: torch.Tensor) -> torch.Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype)


def _rotary(x: torch.Tensor) -> torch.Tensor:
    angles = POSITION / 10_000 ** (torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    left, right = x.view(-1, HEADS, HEAD_DIM).chunk(2, -1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), -1).flatten(1)


def _silu_mul(x: torch.Tensor) -> torch.Tensor:
    gate, up = x.chunk(2, -1)
    return F.silu(gate) * up
