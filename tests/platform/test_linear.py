"""Mixed precision: one fp32 copy of each weight, tied weights stay tied, activations keep dtype."""

import pytest
import torch
from sglang.srt.layers.quantization.unquant import (
    UnquantizedEmbeddingMethod,
    UnquantizedFusedMoEMethod,
    UnquantizedLinearMethod,
)

from llm42_sglang.core.config import GROUPS, PAGE_SIZES
from llm42_sglang.platform import cpu, elementwise, gemm, linear, tiles


@pytest.fixture
def model() -> torch.nn.ModuleList:
    """What the conversion sees of SGLang's layers: a head, the embedding it is tied to, a linear
    layer."""
    torch.manual_seed(1)
    table, body = (torch.nn.Linear(8, rows, dtype=torch.bfloat16).weight for rows in (20, 6))
    methods = UnquantizedEmbeddingMethod(), UnquantizedEmbeddingMethod(), UnquantizedLinearMethod()
    layers = torch.nn.ModuleList(torch.nn.Module() for _ in methods)
    for layer, method, weight in zip(layers, methods, (table, table, body), strict=True):
        layer.quant_method, layer.weight = method, weight.requires_grad_(False)
    return layers


def test_weights_become_fp32_and_activations_keep_their_dtype(model):
    original = [parameter.clone() for parameter in model.parameters()]
    linear.use_mixed_precision(model)
    assert [p.dtype for p in model.parameters()] == [torch.float32] * 2  # no second copy
    assert model[0].weight is model[1].weight
    for before, after in zip(original, model.parameters(), strict=True):
        assert torch.equal(before.float(), after)
    x, bias = torch.randn(3, 8).bfloat16(), torch.randn(6).bfloat16()
    head, embed, body = model
    product = x.float() @ body.weight.T
    for added, expected in ((None, product), (bias, product + bias.float())):
        out = body.quant_method.apply(body, x, added)
        assert out.dtype == torch.bfloat16 and torch.equal(out, expected.bfloat16())
    assert embed.quant_method.embedding(embed, torch.tensor([4])).dtype == torch.bfloat16
    assert head.quant_method.apply(head, x).dtype == torch.float32


@pytest.mark.parametrize("rows", [0, 1, 32, 33, 80])
def test_with_tiles_only_passes_compute_few_rows_at_a_time(monkeypatch, model, rows):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    monkeypatch.setattr(elementwise, "use_torch", lambda: None)
    monkeypatch.delenv(linear.SWITCH, raising=False)
    cpu.PlainCpuPlatform().post_load_model(model)
    seen, kernel = [], torch.nn.functional.linear
    monkeypatch.setattr(tiles.F, "linear", lambda x, *w: seen.append(len(x)) or kernel(x, *w))
    head, _, body = model
    x, bias = torch.randn(rows, 8).bfloat16(), torch.randn(6).bfloat16()
    for layer, added in ((head, None), (body, bias)):
        expected = kernel(x, layer.weight, added)
        seen.clear()
        assert torch.equal(layer.quant_method.apply(layer, x, added), expected)
        assert seen == [rows]
        with tiles.few_rows_at_a_time():
            y = layer.quant_method.apply(layer, x, added)
        assert (y.shape, y.dtype) == (expected.shape, torch.bfloat16)
        torch.testing.assert_close(y, expected)
        assert sum(seen[1:]) == rows and max(seen[1:]) <= tiles.ROWS


def test_with_tiles_other_dtypes_and_a_head_in_fp32_are_left_alone(model):
    head, embed, body = model
    model.use_fp32_lm_head = True
    tiles.use_one_kernel(model)
    assert type(body.quant_method) is tiles.TiledLinear
    assert {type(each.quant_method) for each in (head, embed)} == {UnquantizedEmbeddingMethod}
    body.weight.data, body.quant_method = body.weight.float(), UnquantizedLinearMethod()
    tiles.use_one_kernel(model)
    assert type(body.quant_method) is UnquantizedLinearMethod


def test_with_tiles_a_model_with_experts_is_left_alone(model):
    """Its decode steps are never canonical, so its passes need not have their kernel."""
    mixture = torch.nn.Module()
    mixture.quant_method = UnquantizedFusedMoEMethod()
    tiles.use_one_kernel(torch.nn.ModuleList([*model, mixture]))
    assert type(model[-1].quant_method) is UnquantizedLinearMethod


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
@pytest.mark.parametrize("library", [True, False])
def test_product_sum_and_shape(monkeypatch, rows, library):
    if library and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: library)
    torch.manual_seed(2)
    x, weight, bias = torch.randn(rows, 8).bfloat16(), torch.randn(6, 8), torch.randn(6)
    y = gemm.fp32_linear(x, weight, bias.bfloat16())
    assert (y.shape, y.dtype) == ((rows, 6), torch.float32)
    torch.testing.assert_close(y, x.float() @ weight.T + bias.bfloat16().float())
    pairs = torch.stack([x, x.flip(-1)], 1)  # [rows, 2, 8]
    torch.testing.assert_close(gemm.fp32_linear(pairs, weight), pairs.float() @ weight.T)
    x, weight, bias = torch.randn(8, rows).T, torch.randn(8, 12).T[::2], torch.randn(12)[::2]
    y = gemm.fp32_linear(x, weight, bias)  # nothing need be contiguous
    torch.testing.assert_close(y, x @ weight.T + bias)


def test_few_shapes_are_kept_and_canonical_ones_are_not_padded():
    """A shape that oneDNN has seen stays in memory; prompts come in every length."""
    sizes = {count: gemm.padded_rows(count) for count in range(8193)}
    assert len({*sizes.values()}) < 100
    assert all(count <= size <= count + count // 8 for count, size in sizes.items())
    passes = {page * group for page in PAGE_SIZES for group in GROUPS}
    assert all(sizes[count] == count for count in {*range(17), *passes})


@pytest.mark.parametrize(
    ("switch", "tiles", "wanted"),
    [
        ("fp32", True, True),
        ("native", False, False),
        (None, True, False),  # the host has tiles for bf16
        (None, False, True),
    ],
)
def test_the_switch_decides_or_else_the_host(monkeypatch, switch, tiles, wanted):
    monkeypatch.delenv(linear.SWITCH, raising=False)
    if switch:
        monkeypatch.setenv(linear.SWITCH, switch)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)  # not asked
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    assert linear.mixed_precision_wanted() is wanted


def test_an_unknown_switch_value_is_named(monkeypatch):
    monkeypatch.setenv(linear.SWITCH, "int3")
    with pytest.raises(ValueError, match="use auto, fp32 or native"):
        linear.mixed_precision_wanted()
