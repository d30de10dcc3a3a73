"""Mixture of experts: a row's bits do not depend on its neighbours' routing, in a fixed shape.

The negative control: in SGLang's native kernel they do.
"""

from types import SimpleNamespace

import pytest
import torch
from sglang.srt.layers.moe import MoeRunnerConfig, fused_moe_native
from sglang.srt.layers.moe.token_dispatcher import StandardDispatchOutput
from sglang.srt.layers.moe.topk import StandardTopKOutput
from sglang.srt.layers.quantization.unquant import UnquantizedFusedMoEMethod

from llm42_sglang.engine import canonical
from llm42_sglang.platform.experts import every_expert_over_all_rows
from llm42_sglang.platform.linear import use_mixed_precision

EXPERTS, HIDDEN, INNER, ROWS, TOP_K = 8, 64, 96, 32, 2
CONFIG = MoeRunnerConfig(activation="silu", apply_router_weight_on_input=False)
native = fused_moe_native.moe_forward_native
fixed = every_expert_over_all_rows(native)


@pytest.fixture
def layer() -> SimpleNamespace:
    torch.manual_seed(0)
    return SimpleNamespace(
        num_experts=EXPERTS,
        w13_weight=torch.randn(EXPERTS, 2 * INNER, HIDDEN) / 8,
        w2_weight=torch.randn(EXPERTS, HIDDEN, INNER) / 8,
    )


def routed(ids: torch.Tensor, shift: int = 0) -> StandardTopKOutput:
    weights = torch.rand(ids.shape, generator=torch.Generator().manual_seed(1))
    return StandardTopKOutput(weights.roll(shift, 0), ids.roll(shift, 0), None)


def rows() -> torch.Tensor:
    return torch.randn(ROWS, HIDDEN, generator=torch.Generator().manual_seed(2))


def routing(neighbours: str) -> torch.Tensor:
    """Row 0 chooses experts 3 and 5; the others shun them, follow it, or choose at random."""
    dice = torch.Generator().manual_seed(3)
    ids = torch.stack([torch.randperm(EXPERTS, generator=dice)[:TOP_K] for _ in range(ROWS)])
    if neighbours != "random":
        ids[:] = torch.tensor([0, 1] if neighbours == "shun" else [3, 5])
    ids[0] = torch.tensor([3, 5])
    return ids


def test_neighbours_routing_changes_no_bit_of_a_row_in_a_fixed_shape(layer):
    """The negative control, and why there is another kernel: in the native one it does."""
    ways = [routed(routing(how)) for how in ("shun", "follow", "random")]
    alone, crowded, mixed = (fixed(layer, rows(), way, CONFIG)[0] for way in ways)
    assert torch.equal(alone, crowded) and torch.equal(alone, mixed)
    alone, crowded, _ = (native(layer, rows(), way, CONFIG)[0] for way in ways)
    assert not torch.equal(alone, crowded)


def test_a_rows_place_changes_no_bit_and_both_kernels_compute_the_same(layer):
    ids, x = routing("random"), rows()
    there = fixed(layer, x, routed(ids), CONFIG)
    assert torch.equal(fixed(layer, x.roll(5, 0), routed(ids, 5), CONFIG), there.roll(5, 0))
    torch.testing.assert_close(there, native(layer, x, routed(ids), CONFIG))


def test_a_bf16_mixture_is_converted_and_computes_in_fp32(layer):
    mixture = torch.nn.Module()
    before = [layer.w13_weight.bfloat16(), layer.w2_weight.bfloat16()]
    for name, weight in zip(("w13_weight", "w2_weight"), before, strict=True):
        setattr(mixture, name, torch.nn.Parameter(weight.clone(), requires_grad=False))
    mixture.num_experts, mixture.moe_runner_config = EXPERTS, CONFIG
    mixture.quant_method = UnquantizedFusedMoEMethod()
    use_mixed_precision(torch.nn.ModuleList([mixture]))
    after = list(mixture.parameters())
    assert all(torch.equal(a, b.float()) for a, b in zip(after, before, strict=True))
    x, ids = rows().bfloat16(), routed(routing("random"))
    given = StandardDispatchOutput(hidden_states=x, hidden_states_scale=None, topk_output=ids)
    out = mixture.quant_method.apply(mixture, given).hidden_states
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, native(mixture, x.float(), ids, CONFIG).bfloat16())


def test_the_fast_path_keeps_sglangs_kernel(layer):
    given = (layer, rows(), routed(routing("shun")), CONFIG)
    outside = canonical.fixed_shape_experts(native, *given)
    with canonical.head_rows(torch.arange(4)):
        inside = canonical.fixed_shape_experts(native, *given)
    assert torch.equal(outside, native(*given))
    assert torch.equal(inside, fixed(*given))
    assert not torch.equal(inside[0], outside[0])
