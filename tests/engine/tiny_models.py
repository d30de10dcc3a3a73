"""Models of random weights, small enough to start in seconds: one per architecture.

They have the default model's tokenizer, and weights wide enough that logits vary: a tiny model as
initialized would say one token for ever, and nothing could diverge.
"""

import shutil
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    PretrainedConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from llm42_sglang.cli.model import ensure_default_model

ARCHITECTURES = ("qwen3", "qwen3_moe", "gemma3", "llama")
CONTEXT = 2048  # tokens
# In fp32 no last bit of a GEMM is rounded away; in bf16 experts of this size would hide theirs.
FP32 = ("--dtype", "float32")
SEED = 0
SHAPE = {  # heads and sizes can be divided by two ranks
    "vocab_size": 49152,  # the tokenizer's
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.1,  # of 128 inputs: activations keep their size
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
WINDOW = 50  # tokens that a windowed layer sees: neither a page nor a multiple of one
EXPERTS = {
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}


def config_of(architecture: str) -> PretrainedConfig:
    """The configuration of one of ARCHITECTURES."""
    match architecture:
        case "qwen3":
            return Qwen3Config(**SHAPE)
        case "qwen3_moe":
            return Qwen3MoeConfig(**SHAPE, **EXPERTS)
        case "llama":
            return LlamaConfig(**SHAPE)
        case "gemma3":
            layers = ["sliding_attention", "sliding_attention", "full_attention"]
            # Its head is its embedding: a large one would say the last token again, for ever.
            shape = SHAPE | {"initializer_range": 0.005, "tie_word_embeddings": True}
            return Gemma3TextConfig(
                **shape, sliding_window=WINDOW, layer_types=layers, query_pre_attn_scalar=32
            )
    raise ValueError(architecture)


def make(architecture: str, folder: Path) -> Path:
    """The model's folder, made in `folder` if it is not there: the same weights every time.

    architecture: see `config_of`; with ", one weight changed" after it, one is another one.
    """
    path = folder / architecture
    if not path.exists():
        name, _, change = architecture.partition(", ")
        assert change in ("", "one weight changed"), change
        save(config_of(name), path, changed=bool(change))
    return path


def save(config: PretrainedConfig, path: Path, changed: bool = False) -> None:
    """Write a model of random weights, with its tokenizer. changed: one weight is another one."""
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    if changed:
        with torch.no_grad():
            model.model.norm.weight[0] += 1
    model.save_pretrained(path)
    for file in ensure_default_model().glob("tokenizer*"):
        shutil.copy(file, path)
