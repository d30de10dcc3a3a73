"""Mixture of experts for plain CPUs, in a fixed shape.

SGLang's native kernel gathers for each expert the rows that chose it. So the size of an expert's
GEMM depends on the whole batch. A GEMM of another size may sum a row in another order. So a row's
bits can depend on the experts that its neighbours chose, which assumption A2 forbids.

In a canonical pass every expert computes all rows, and each row keeps the results of the experts
that it chose. That takes num_experts / num_experts_per_tok times the arithmetic, so decode steps
keep SGLang's kernel. So no step is canonical, for A4 would forbid that too. Certification could not
tell for sure: what others chose changes few bits, and rounding to bf16 hides most of them.
"""

from collections.abc import Callable
from typing import Any

import torch
from sglang.srt.layers.moe.topk import StandardTopKOutput

# (layer, [rows, hidden], choices, the layer's MoeRunnerConfig) -> [rows, hidden]
Experts = Callable[[torch.nn.Module, torch.Tensor, StandardTopKOutput, Any], torch.Tensor]


def every_expert_over_all_rows(native: Experts) -> Experts:
    """Return `native`, SGLang's `moe_forward_native`, in a shape that no row's choice changes."""

    def forward(
        layer: torch.nn.Module,
        x: torch.Tensor,
        topk_output: StandardTopKOutput,
        config: Any,
    ) -> torch.Tensor:
        """Return the experts' weighted sum for each row: [rows, hidden], the shape of x."""
        weights, ids, logits = topk_output  # [rows, k] each
        outputs = x.new_zeros(*ids.shape, x.shape[-1])  # [rows, k, hidden]
        for expert in range(layer.num_experts):
            output = native(layer, x, _all_to(expert, weights, ids, logits), config)
            outputs = torch.where((ids == expert).unsqueeze(-1), output.unsqueeze(1), outputs)
        # Summed in the order of the row's own choice, as in the native kernel.
        return (outputs.to(weights.dtype) * weights.unsqueeze(-1)).sum(dim=1).to(x.dtype)

    return forward


def steps_follow_routing(model: torch.nn.Module, device: str) -> bool:
    """Whether a row of a decode step depends on the experts that its neighbours chose."""
    # Imported here, because a process that loads no model does not need it.
    from sglang.srt.layers.moe.fused_moe_triton.layer import FusedMoE

    return device == "cpu" and any(isinstance(layer, FusedMoE) for layer in model.modules())


def _all_to(expert: int, weights, ids, logits) -> StandardTopKOutput:
    """Return a routing in which every row chooses this expert alone, with weight 1."""
    return StandardTopKOutput(
        torch.ones_like(weights[:, :1]), torch.full_like(ids[:, :1], expert), logits
    )
