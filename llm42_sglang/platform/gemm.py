"""y = x.float() @ W32.T + b; in canonical passes summed in blocks of inputs.

A GEMM over many inputs may divide them between threads for some numbers of rows and not for others,
and so sum in another order: MKL does at 1536 inputs, 576 outputs and 64 to 192 rows (torch 2.14.1,
2 threads, a Xeon with AVX-512), and does not at up to 768 inputs. Where it does, narrow canonical
passes have other bits than full ones; certification notices, and they are not used. Experts are not
covered. Ordinary forwards keep the platform's one GEMM.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

BLOCK = 768  # inputs that one GEMM sums in a canonical pass, at most

_in_blocks = False  # this process is in a canonical pass (the scheduler is single-threaded)


@contextmanager
def in_blocks() -> Iterator[None]:
    """While active, no GEMM sums over more than BLOCK inputs."""
    global _in_blocks
    _in_blocks = True
    try:
        yield
    finally:
        _in_blocks = False


def fp32_linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """x: [..., in], weight: [out, in] fp32; returns fp32 [..., out]."""
    block = BLOCK if _in_blocks else weight.shape[1]
    (first, first_weight), *others = zip(
        x.float().split(block, dim=-1), weight.split(block, dim=-1), strict=True
    )
    y = F.linear(first, first_weight, None if bias is None else bias.float())
    for part, part_weight in others:
        y.flatten(0, -2).addmm_(part.flatten(0, -2), part_weight.t())
    return y
