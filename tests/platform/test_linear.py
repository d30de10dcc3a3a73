"""Mixed precision: one fp32 copy of each weight, tied ones stay tied, activations keep dtype."""

from contextlib import nullcontext

import pytest
import torch
from sglang.srt.layers.quantization.unquant import (
    UnquantizedEmbeddingMethod,
    UnquantizedLinearMethod,
)
from torch.utils._python_dispatch import TorchDispatchMode

from llm42_sglang.platform import gemm, linear


class Gemms(TorchDispatchMode):
    """Notes over how many inputs each GEMM sums."""

    def __init__(self):
        super().__init__()
        self.summed = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "mm" in str(func):  # mm, addmm, addmm_
            self.summed.append(args[-1].shape[0])
        return func(*args, **(kwargs or {}))


class Layer(torch.nn.Module):
    """What SGLang's layers look like to the conversion."""

    def __init__(self, method, weight: torch.nn.Parameter):
        super().__init__()
        self.quant_method = method
        self.weight = weight


def model() -> torch.nn.Module:
    torch.manual_seed(1)
    table = torch.nn.Parameter(torch.randn(20, 8).bfloat16(), requires_grad=False)
    body = torch.nn.Parameter(torch.randn(6, 8).bfloat16(), requires_grad=False)
    return torch.nn.ModuleDict(
        {
            "head": Layer(UnquantizedEmbeddingMethod(), table),  # tied, and visited first
            "embed": Layer(UnquantizedEmbeddingMethod(), table),
            "linear": Layer(UnquantizedLinearMethod(), body),
        }
    )


def test_weights_become_fp32_in_place_and_stay_tied():
    converted = model()
    original = [parameter.clone() for parameter in converted.parameters()]
    linear.use_mixed_precision(converted)
    assert [p.dtype for p in converted.parameters()] == [torch.float32] * 2  # no second copy
    assert converted["head"].weight is converted["embed"].weight
    for before, after in zip(original, converted.parameters(), strict=True):
        assert torch.equal(before.float(), after)


def test_activations_keep_their_dtype_and_logits_do_not_round():
    converted = model()
    linear.use_mixed_precision(converted)
    x = torch.randn(3, 8).bfloat16()
    layers = (converted["linear"], converted["embed"], converted["head"])
    body, embed, head = ((layer.quant_method, layer) for layer in layers)
    out = body[0].apply(body[1], x)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, (x.float() @ body[1].weight.T).bfloat16())
    assert embed[0].embedding(embed[1], torch.tensor([4])).dtype == torch.bfloat16
    assert head[0].apply(head[1], x).dtype == torch.float32


def test_bias_is_added_before_rounding():
    converted = model()
    linear.use_mixed_precision(converted)
    layer, x = converted["linear"], torch.randn(3, 8).bfloat16()
    bias = torch.randn(6).bfloat16()
    expected = (x.float() @ layer.weight.T + bias.float()).bfloat16()
    assert torch.equal(layer.quant_method.apply(layer, x, bias), expected)


@pytest.mark.parametrize("canonical", [True, False])
def test_in_a_canonical_pass_no_gemm_sums_more_inputs_than_a_block(monkeypatch, canonical):
    monkeypatch.setattr(gemm, "BLOCK", 3)
    torch.manual_seed(2)
    x, weight, bias = torch.randn(2, 5, 8).bfloat16(), torch.randn(6, 8), torch.randn(6)
    with gemm.in_blocks() if canonical else nullcontext(), Gemms() as gemms:
        y = gemm.fp32_linear(x, weight, bias)
    assert gemms.summed == ([3, 3, 2] if canonical else [8])
    assert y.dtype == torch.float32
    expected = x.float() @ weight.T + bias
    torch.testing.assert_close(y, expected)


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="measured with MKL only")
def test_two_four_and_eight_slots_of_rows_have_the_same_bits():
    torch.manual_seed(3)
    x, weight = torch.randn(256, 1536), torch.randn(576, 1536) / 1536**0.5
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with gemm.in_blocks():
            two, four, eight = (gemm.fp32_linear(x[:rows], weight) for rows in (64, 128, 256))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(two, eight[:64])
    assert torch.equal(four, eight[:128])


@pytest.mark.parametrize(("value", "wanted"), [("fp32", True), ("native", False)])
def test_the_switch_decides(monkeypatch, value, wanted):
    monkeypatch.setenv(linear.SWITCH, value)
    assert linear.mixed_precision_wanted() is wanted


@pytest.mark.parametrize("tiles", [True, False])
def test_the_rule_asks_the_host(monkeypatch, tiles):
    monkeypatch.delenv(linear.SWITCH, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)  # not asked
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    assert linear.mixed_precision_wanted() is not tiles


def test_an_unknown_switch_value_is_named(monkeypatch):
    monkeypatch.setenv(linear.SWITCH, "int3")
    with pytest.raises(ValueError, match="use auto, fp32 or native"):
        linear.mixed_precision_wanted()
