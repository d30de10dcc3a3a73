"""Mixture of experts for plain CPUs, in a fixed shape.

SGLang's native kernel gathers, expert by expert, the rows that chose it: an expert's GEMM has as
many rows as the whole batch sends it, and a GEMM may sum a row in another order when it has more or
fewer of them. So a row's bits can depend on what its neighbours chose, which assumption A2 forbids.

In a canonical pass every expert is given all rows, and each row keeps what its own experts made of
it. That costs num_experts / num_experts_per_tok times the arithmetic: the fast path keeps SGLang's
kernel.
"""

from collections.abc import Callable

import torch
from sglang.srt.layers.moe import MoeRunnerConfig
from sglang.srt.layers.moe.topk import StandardTopKOutput

Experts = Callable[
    [torch.nn.Module, torch.Tensor, StandardTopKOutput, MoeRunnerConfig], torch.Tensor
]


def every_expert_over_all_rows(native: Experts) -> Experts:
    """The same function as `moe_forward_native`, in a shape that nobody's routing changes."""

    def forward(
        layer: torch.nn.Module,
        x: torch.Tensor,
        topk_output: StandardTopKOutput,
        config: MoeRunnerConfig,
    ) -> torch.Tensor:
        """x: [rows, hidden]; returns the same shape."""
        weights, ids, logits = topk_output  # [rows, k] each
        outs = x.new_zeros(*ids.shape, x.shape[-1])  # [rows, k, hidden]
        for expert in range(layer.num_experts):
            out = native(layer, x, _all_to(expert, weights, ids, logits), config)
            outs = torch.where((ids == expert).unsqueeze(-1), out.unsqueeze(1), outs)
        # As the native kernel adds them up: in the order of the row's own choice.
        return (outs.to(weights.dtype) * weights.unsqueeze(-1)).sum(dim=1).to(x.dtype)

    return forward


def _all_to(expert: int, weights, ids, logits) -> StandardTopKOutput:
    """Every row chooses this expert alone, with weight 1."""
    return StandardTopKOutput(
        torch.ones_like(weights[:, :1]), torch.full_like(ids[:, :1], expert), logits
    )
