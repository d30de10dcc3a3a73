"""Mixed-precision linear layers: bf16 activations, fp32 weights and accumulation.

A host without bf16 dot instructions emulates a bf16 GEMM, several times slower than fp32. There it
is fastest to compute in fp32 and round the result back. Numerically that is what a GPU does: bf16
in and out, fp32 in between.

A host with AVX512-BF16 but without tiles (AMX) could compute in bf16. But then torch would sum a
row alike in every batch, and ordinary requests would hardly ever diverge, unlike on other hosts and
on GPUs. This platform is for tests and demonstrations. So these hosts compute in fp32 as well,
unless LLM42_CPU_LINEAR says otherwise. A host with tiles computes in bf16: `platform.tiles`.

Weights are converted in place, so memory holds one copy of each, and tied embeddings stay tied. The
language-model head returns its logits in fp32, not rounded back.
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
    """Whether linears compute in fp32: on every host without tiles of bf16 (AMX), by default.

    Raises ValueError for an unknown value of LLM42_CPU_LINEAR.
    """
    choice = os.environ.get(SWITCH, "auto")
    if choice not in ("auto", "fp32", "native"):
        raise ValueError(f"{SWITCH}={choice} is not supported; use auto, fp32 or native")
    if choice != "auto":
        return choice == "fp32"
    return not torch.cpu._is_amx_tile_supported()


class MixedPrecisionLinear(UnquantizedLinearMethod):
    """A linear layer: y = round(x.float() @ W32.T + b), in the dtype of x."""

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return y: [rows, out] in x's dtype. x: [rows, in]; layer.weight: [out, in] fp32."""
        return fp32_linear(x, layer.weight, bias).to(x.dtype)


class MixedPrecisionEmbedding(UnquantizedEmbeddingMethod):
    """Looks rows up in the fp32 table, and returns them in the dtype of the activations."""

    def __init__(self, activation_dtype: torch.dtype) -> None:
        self.activation_dtype = activation_dtype

    def embedding(self, layer: torch.nn.Module, input_: torch.Tensor) -> torch.Tensor:
        """Return the rows of the table: [rows, hidden]. input_: [rows] token ids."""
        return F.embedding(input_, layer.weight).to(self.activation_dtype)

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return logits, as a language-model head: [rows, vocab] fp32. x: [rows, hidden]."""
        return fp32_linear(x, layer.weight, bias)


class MixedPrecisionExperts(UnquantizedFusedMoEMethod):
    """A mixture of experts in fp32. The weighted sum is rounded to the dtype of x."""

    def __init__(self, original: UnquantizedFusedMoEMethod) -> None:
        self.__dict__.update(vars(original))  # which has the runner that its layer made

    def apply(
        self, layer: torch.nn.Module, dispatch_output: StandardDispatchOutput
    ) -> StandardCombineInput:
        """Return the weighted sums: [rows, hidden], the shape and dtype of `hidden_states`.

        The layer's w13_weight and w2_weight are [experts, out, in] fp32.
        """
        x, topk = dispatch_output.hidden_states, dispatch_output.topk_output
        # Called through its module, because a hook on it acts in canonical passes.
        out = fused_moe_native.moe_forward_native(layer, x.float(), topk, layer.moe_runner_config)
        return StandardCombineInput(hidden_states=out.to(x.dtype))


def use_mixed_precision(model: torch.nn.Module) -> None:
    """Make a model compute in fp32: convert its unquantized layers in place.

    These are linears, mixtures of experts, embeddings and the language-model head.
    """
    before = {name: parameter.dtype for name, parameter in model.named_parameters()}
    layers = unquantized_layers(model)
    for layer in layers:
        if type(layer.quant_method) is UnquantizedLinearMethod:
            layer.quant_method = MixedPrecisionLinear()
        else:
            layer.quant_method = MixedPrecisionEmbedding(layer.weight.dtype)
    for layer in layers:
        # In place on the parameter: tied modules share it, and so see the same fp32 table.
        layer.weight.data = layer.weight.data.float()
    mixtures = mixtures_of(model)
    for layer in mixtures:
        layer.quant_method = MixedPrecisionExperts(layer.quant_method)
        for parameter in layer.parameters(recurse=False):
            parameter.data = parameter.data.float()
    now = {name: parameter.dtype for name, parameter in model.named_parameters()}
    _round_what_is_loaded(model, {name: before[name] for name in now if now[name] != before[name]})
    converted = len(layers) + len(mixtures)
    logger.info("llm42: %d layers compute in fp32 from one fp32 copy each", converted)


def unquantized_layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the unquantized linears, embeddings and language-model head of a model."""
    replaceable = (UnquantizedLinearMethod, UnquantizedEmbeddingMethod)
    return [m for m in model.modules() if type(getattr(m, "quant_method", None)) in replaceable]


def mixtures_of(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the unquantized mixtures of experts in a model."""
    methods = ((layer, getattr(layer, "quant_method", None)) for layer in model.modules())
    return [layer for layer, method in methods if type(method) is UnquantizedFusedMoEMethod]


def _round_what_is_loaded(model: torch.nn.Module, dtypes: dict[str, torch.dtype]) -> None:
    """Have later loads round to the precision that the parameters had, as the first one has done.

    dtypes: of the converted parameters, by name. They would keep what a checkpoint has of more
    precision.
    """
    load = getattr(model, "load_weights", None)
    if load is None:
        return

    def load_rounded(*args, **kwargs):
        loaded = load(*args, **kwargs)
        parameters = dict(model.named_parameters())
        for name, dtype in dtypes.items():
            rounded = parameters[name].data.to(dtype).float()
            if not torch.equal(rounded, parameters[name].data):
                parameters[name].data.copy_(rounded)
        return loaded

    model.load_weights = load_rounded
