"""y = x.float() @ W32.T + b, summed in blocks of inputs.

A GEMM over many inputs may divide them between threads for some numbers of rows and not for others,
and so sum in another order: MKL does on AVX-512 at 1536 inputs and 64 to 192 rows. Then narrow
canonical passes have other bits than full ones, and are not used. Over so few inputs it does not.
"""

import torch
import torch.nn.functional as F

BLOCK = 768  # inputs that one GEMM sums, at most


def fp32_linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """x: [rows, in], weight: [out, in] fp32; returns fp32 [rows, out]."""
    (first, first_weight), *others = zip(
        x.float().split(BLOCK, dim=1), weight.split(BLOCK, dim=1), strict=True
    )
    y = F.linear(first, first_weight, None if bias is None else bias.float())
    for part, part_weight in others:
        y.addmm_(part, part_weight.t())
    return y
