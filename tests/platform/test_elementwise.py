"""Kernels of SGLang's that need Triton, in torch: what they compute, and that models call them."""

import torch
from sglang.srt.layers import logits_processor
from sglang.srt.models import qwen2_moe

from llm42_sglang.platform import elementwise


def test_a_cap_keeps_small_logits_and_bounds_large_ones():
    logits = torch.tensor([[0.0, 0.5, -3.0, 1e4]])
    expected = 30 * torch.tanh(logits / 30)
    capped = elementwise.cap_logits(logits, 30.0)
    assert capped is logits  # in place, as SGLang wants it
    torch.testing.assert_close(capped, expected)


def test_the_shared_expert_is_gated_row_by_row():
    hidden, shared, output = torch.randn(3, 5, 64).bfloat16()
    gate, before = torch.randn(64).bfloat16(), output.clone()
    elementwise.add_gated(hidden, gate, shared, output)
    scores = torch.sigmoid(hidden.double() @ gate.double())
    expected = before.double() + scores.unsqueeze(1) * shared.double()
    torch.testing.assert_close(output.double(), expected, atol=2e-2, rtol=2e-2)
    alone = before[2:3].clone()
    elementwise.add_gated(hidden[2:3], gate, shared[2:3], alone)
    assert torch.equal(alone, output[2:3])


def test_models_call_them(monkeypatch):
    for module, name in (
        (logits_processor, "fused_softcap"),
        (qwen2_moe, "fused_gate_sigmoid_mul_add"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))
    elementwise.use_torch()
    assert logits_processor.fused_softcap is elementwise.cap_logits
    assert qwen2_moe.fused_gate_sigmoid_mul_add is elementwise.add_gated
