"""Mixed-precision linear layers: bf16 activations, fp32 weights and accumulation.

Hosts without bf16 dot instructions emulate a bf16 GEMM, several times slower than fp32. Computing
in fp32 and rounding the result back is both the fast path there and, numerically, what a GPU does:
bf16 in and out, fp32 in between. With AVX512-BF16 but no tiles (AMX) torch sums a row of a native
GEMM alike in every batch: ordinary requests would hardly ever diverge, as they do on other hosts
and on GPUs. This platform is for tests and demonstrations, so hosts without tiles take the same
path unless told otherwise.
Weights are converted in place, so memory holds one copy of each; tied embeddings stay tied. The
language-model head keeps its fp32 logits (no rounding back).
"""

import logging
import os

import torch
import torch.nn.functional as F
from sglang.srt.layers.moe import fused_moe_native
from sglang.srt.layers.moe.token_dispatcher import StandardCombineInput, StandardDispatchOutput
from sglang.srt.layers.quantization.unquant import (
    UnquantizedEmbeddingMethod,
    UnquantizedFusedMoEMethod,
    UnquantizedLinearMethod,
)

from llm42_sglang.platform.gemm import fp32_linear

logger = logging.getLogger(__name__)

SWITCH = "LLM42_CPU_LINEAR"  # "fp32", "native", or "auto" (the default)


def mixed_precision_wanted() -> bool:
    """The rule: fp32 arithmetic unless the host multiplies tiles of bf16.

    Raises ValueError on an unknown value of LLM42_CPU_LINEAR.
    """
    choice = os.environ.get(SWITCH, "auto")
    if choice not in ("auto", "fp32", "native"):
        raise ValueError(f"{SWITCH}={choice} is not known; use auto, fp32 or native")
    if choice != "auto":
        return choice == "fp32"
    return not torch.cpu._is_amx_tile_supported()


class MixedPrecisionLinear(UnquantizedLinearMethod):
    """y = round(x.float() @ W32.T + b), in the dtype of x."""

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """x: [rows, in], layer.weight: [out, in] fp32; returns [rows, out] in x's dtype."""
        return fp32_linear(x, layer.weight, bias).to(x.dtype)


class MixedPrecisionEmbedding(UnquantizedEmbeddingMethod):
    """Looks rows up in the fp32 table and hands on activations in the model's dtype."""

    def __init__(self, activation_dtype: torch.dtype) -> None:
        self.activation_dtype = activation_dtype

    def embedding(self, layer: torch.nn.Module, input_: torch.Tensor) -> torch.Tensor:
        """input_: [rows] token ids; returns [rows, hidden]."""
        return F.embedding(input_, layer.weight).to(self.activation_dtype)

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As a language-model head. x: [rows, hidden]; returns fp32 logits [rows, vocab]."""
        return fp32_linear(x, layer.weight, bias)


class MixedPrecisionExperts(UnquantizedFusedMoEMethod):
    """Each expert of a mixture in fp32; the weighted sum is rounded to the dtype of x."""

    def __init__(self, original: UnquantizedFusedMoEMethod) -> None:
        self.__dict__.update(vars(original))  # with the runner that the layer has made for it

    def apply(
        self, layer: torch.nn.Module, dispatch_output: StandardDispatchOutput
    ) -> StandardCombineInput:
        """hidden_states: [rows, hidden]; w13_weight, w2_weight: [experts, out, in] fp32."""
        x, topk = dispatch_output.hidden_states, dispatch_output.topk_output
        # By its module's name: canonical passes have another function there.
        out = fused_moe_native.moe_forward_native(layer, x.float(), topk, layer.moe_runner_config)
        return StandardCombineInput(hidden_states=out.to(x.dtype))


def use_mixed_precision(model: torch.nn.Module) -> None:
    """Convert every unquantized linear, mixture of experts, embedding and language-model head of
    `model` in place."""
    replaceable = (UnquantizedLinearMethod, UnquantizedEmbeddingMethod)
    layers = [m for m in model.modules() if type(getattr(m, "quant_method", None)) in replaceable]
    for layer in layers:
        if type(layer.quant_method) is UnquantizedLinearMethod:
            layer.quant_method = MixedPrecisionLinear()
        else:
            layer.quant_method = MixedPrecisionEmbedding(layer.weight.dtype)
    for layer in layers:
        # In place on the parameter object: tied modules share it and see the same fp32 table.
        layer.weight.data = layer.weight.data.float()
    mixtures = _mixtures_of(model)
    for layer in mixtures:
        layer.quant_method = MixedPrecisionExperts(layer.quant_method)
        for parameter in layer.parameters(recurse=False):
            parameter.data = parameter.data.float()
    converted = len(layers) + len(mixtures)
    logger.info("llm42: %d layers compute in fp32 from one fp32 copy each", converted)


def _mixtures_of(model: torch.nn.Module) -> list[torch.nn.Module]:
    methods = ((layer, getattr(layer, "quant_method", None)) for layer in model.modules())
    return [layer for layer, method in methods if type(method) is UnquantizedFusedMoEMethod]
