"""Two of SGLang's Triton kernels in torch, for models that call them on every device.

Triton has no driver for a CPU. SGLang itself calls others only where its own CPU engine runs.
"""

import torch
from sglang.srt.layers import logits_processor
from sglang.srt.models import qwen2_moe


def cap_logits(logits: torch.Tensor, cap: float) -> torch.Tensor:
    """Cap logits in place, as Gemma 2 wants it: cap * tanh(logits / cap). logits: any shape."""
    return logits.div_(cap).tanh_().mul_(cap)


def add_gated(
    hidden: torch.Tensor, gate: torch.Tensor, shared: torch.Tensor, output: torch.Tensor
) -> None:
    """Add to `output`, in place, what the shared expert says, times sigmoid(hidden @ gate).

    hidden, shared, output: [rows, hidden size]; gate: [hidden size]. In fp32, row by row.
    """
    scores = (hidden.float() * gate.float()).sum(-1, keepdim=True)
    output.copy_(output.float() + scores.sigmoid() * shared.float())


def use_torch() -> None:
    """Have SGLang's modules call these, in this process."""
    logits_processor.fused_softcap = cap_logits
    qwen2_moe.fused_gate_sigmoid_mul_add = add_gated
