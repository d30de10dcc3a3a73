"""The fp32 linear y = x.float() @ W32.T + b: oneDNN's kernel for several rows, torch's for one.

torch hands an fp32 linear to MKL, which packs the weights anew in every call. With few rows that is
most of the time. oneDNN takes less time with the same weights. On AVX2, the only kind of host where
this was measured, it also sums a row in the same order whatever the number of rows. So canonical
passes of every width have the same bits, and in a decode step of two rows or more most candidates
are right. Certification finds out where that does not hold. Experts do not use this kernel.

One row alone is torch's matrix-vector product, which sums in another order. This is why answers
depend on the load here; on GPUs, kernels such as split-K have that effect.
"""

import torch
import torch.nn.functional as F


def fp32_linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Return y: [..., out] fp32. x: [..., in] of any dtype; weight: [out, in] fp32; bias: [out]."""
    rows = x.float().reshape(-1, x.shape[-1])
    bias = None if bias is None else bias.float().contiguous()  # oneDNN ignores strides
    count = len(rows)
    if count == 1 or not torch.backends.mkldnn.is_available():
        y = F.linear(rows, weight, bias)
    else:
        missing = padded_rows(count) - count
        padded = F.pad(rows, (0, 0, 0, missing)) if missing else rows
        # An operation that torch's compiler emits. It is private; torch's version is pinned.
        y = torch.ops.mkldnn._linear_pointwise(padded, weight, bias, "none", [], "")[:count]
    return y.view(*x.shape[:-1], len(weight))


def padded_rows(count: int) -> int:
    """Return how many rows `count` rows are padded to.

    There are eight sizes from one power of two to the next. oneDNN keeps half a MiB for every shape
    that it has seen, and prompts have any length.
    """
    step = 1 << max(0, count.bit_length() - 4)
    return -(-count // step) * step
