"""In a fixed shape, the bits of a mixture of experts do not depend on the routing of other rows.

The negative control: with SGLang's native kernel they do.
"""

from types import SimpleNamespace

import pytest
import torch
from sglang.srt.layers.moe import MoeRunnerConfig, fused_moe_native
from sglang.srt.layers.moe.fused_moe_triton.layer import FusedMoE
from sglang.srt.layers.moe.token_dispatcher import StandardDispatchOutput
from sglang.srt.layers.moe.topk import StandardTopKOutput
from sglang.srt.layers.quantization.unquant import UnquantizedFusedMoEMethod

from llm42_sglang.engine.passes import canonical
from llm42_sglang.platform.experts import every_expert_over_all_rows, steps_follow_routing
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


def rows() -> torch.Tensor:
    return torch.randn(ROWS, HIDDEN, generator=torch.Generator().manual_seed(2))


def routed(neighbours: str, shift: int = 0) -> StandardTopKOutput:
    """Row 0 chooses experts 3 and 5; the others shun them, follow it, or choose at random."""
    dice = torch.Generator().manual_seed(3)
    ids = torch.rand(ROWS, EXPERTS, generator=dice).topk(TOP_K).indices
    if neighbours != "random":
        ids[:] = torch.tensor([0, 1] if neighbours == "shun" else [3, 5])
    ids[0] = torch.tensor([3, 5])
    weights = torch.rand(ids.shape, generator=dice)
    return StandardTopKOutput(weights.roll(shift, 0), ids.roll(shift, 0), None)


def test_neighbours_routing_changes_no_bit_of_a_row_in_a_fixed_shape(layer):
    """The negative control, and why there is another kernel: in the native one it does."""
    ways = list(map(routed, ("shun", "follow", "random")))
    alone, crowded, mixed = (fixed(layer, rows(), way, CONFIG)[0] for way in ways)
    assert torch.equal(alone, crowded) and torch.equal(alone, mixed)
    alone, crowded, _ = (native(layer, rows(), way, CONFIG)[0] for way in ways)
    assert not torch.equal(alone, crowded)


def test_so_steps_of_a_cpu_follow_the_routing_if_a_model_has_experts():
    layer = FusedMoE.__new__(FusedMoE)
    torch.nn.Module.__init__(layer)
    experts = torch.nn.Sequential(layer)
    assert steps_follow_routing(experts, "cpu") and not steps_follow_routing(experts, "cuda")
    assert not steps_follow_routing(torch.nn.Sequential(torch.nn.Linear(2, 2)), "cpu")


def test_a_rows_place_changes_no_bit_and_both_kernels_compute_the_same(layer):
    x, way = rows(), routed("random")
    there = fixed(layer, x, way, CONFIG)
    moved = fixed(layer, x.roll(5, 0), routed("random", shift=5), CONFIG)
    assert torch.equal(moved, there.roll(5, 0))
    torch.testing.assert_close(there, native(layer, x, way, CONFIG))


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
    x, ids = rows().bfloat16(), routed("random")
    given = StandardDispatchOutput(hidden_states=x, hidden_states_scale=None, topk_output=ids)
    out = mixture.quant_method.apply(mixture, given).hidden_states
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, native(mixture, x.float(), ids, CONFIG).bfloat16())


def test_the_fast_path_keeps_sglangs_kernel(layer):
    given = (layer, rows(), routed("shun"), CONFIG)
    outside = canonical.fixed_shape_experts(native, *given)
    with canonical.head_rows(torch.arange(4)):
        inside = canonical.fixed_shape_experts(native, *given)
    assert torch.equal(outside, native(*given))
    assert torch.equal(inside, fixed(*given))
    assert not torch.equal(inside[0], outside[0])
