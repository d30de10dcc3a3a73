"""y = x.float() @ W32.T + b: oneDNN's kernel for several rows, torch's own for one.

torch hands an fp32 linear to MKL, which packs the weights anew in every call; few rows pay most of
that. From the same weights oneDNN takes 0.6 of MKL's time for 32 rows (torch 2.14.1, 2 threads,
AMD, AVX2). It also adds up a row in the same order whatever the number of rows, where MKL divides
the inputs of some shapes between its threads: so canonical passes of every width have the same
bits, and a decode step of two rows or more mostly proposes what the pass will say. Certification
finds out where that does not hold. Experts are not covered.

One row alone is torch's matrix-vector product, which adds up in another order. That is why answers
depend on load here; on GPUs split-K and its like do that.
"""

import torch
import torch.nn.functional as F


def fp32_linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """x: [..., in], weight: [out, in] fp32; returns fp32 [..., out]."""
    x, bias = x.float(), None if bias is None else bias.float()
    one_row = x.numel() == x.shape[-1]
    if one_row or not torch.backends.mkldnn.is_available():
        return F.linear(x, weight, bias)
    # What torch.compile makes of a linear; it takes plain weights as they are.
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
