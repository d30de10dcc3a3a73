"""The two kernels that hosts with AMX have for bf16 linears, emulated in fp32."""

import torch
import torch.nn.functional as F

from llm42_sglang.platform import gemm


def kernels_of_amx(x: torch.Tensor, weight: torch.Tensor, bias=None) -> torch.Tensor:
    """One kernel for up to 32 rows, which sums a row alike in every batch, and another for more."""
    count, middle = len(x), x.shape[-1] // 2
    if count <= 32:  # that of fp32, which one row alone does not have
        return gemm.fp32_linear(F.pad(x, (0, 0, 0, count == 1)), weight, bias)[:count]
    parts = ((x[:, :middle], weight[:, :middle]), (x[:, middle:], weight[:, middle:]))
    first, second = (gemm.fp32_linear(a, b.contiguous()) for a, b in parts)
    return first + second if bias is None else first + second + bias
