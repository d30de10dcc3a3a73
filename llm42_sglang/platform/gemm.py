"""y = x.float() @ W32.T + b: oneDNN's kernel for several rows, torch's own for one.

torch hands an fp32 linear to MKL, which packs the weights anew in every call; few rows pay most of
that, and oneDNN needs less time from the same weights. On AVX2, the only kind of host it was
measured on, it also adds up a row in the same order whatever the number of rows, so canonical
passes of every width have the same bits, and a decode step of two rows or more mostly proposes
what the pass will say. Certification finds out where that does not hold. Experts are not covered.

One row alone is torch's matrix-vector product, which adds up in another order. That is why answers
depend on load here; on GPUs split-K and its like do that.
"""

import torch
import torch.nn.functional as F


def fp32_linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """x: [..., in], weight: [out, in] fp32; returns fp32 [..., out]."""
    rows = x.float().reshape(-1, x.shape[-1])
    bias = None if bias is None else bias.float().contiguous()  # oneDNN does not look at strides
    count = len(rows)
    if count == 1 or not torch.backends.mkldnn.is_available():
        y = F.linear(rows, weight, bias)
    else:
        padded = F.pad(rows, (0, 0, 0, padded_rows(count) - count))
        # Private to torch, whose compiler emits it; the version of torch is pinned.
        y = torch.ops.mkldnn._linear_pointwise(padded, weight, bias, "none", [], "")[:count]
    return y.view(*x.shape[:-1], len(weight))


def padded_rows(count: int) -> int:
    """Rows that so many are padded to: eight sizes from one power of two to the next.

    oneDNN keeps half a MiB for every shape it has seen, and prompts have any length.
    """
    step = 1 << max(0, count.bit_length() - 4)
    return -(-count // step) * step
