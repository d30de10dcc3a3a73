"""Tiny models of random weights, one for each architecture that SGLang and transformers both have.

They are as those of the tests (`tests.engine.tiny_models`): three layers, 128 wide, and the default
model's tokenizer. A key of ARCHITECTURES is transformers' `model_type`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from tests.engine.tiny_models import SHAPE, WINDOW, save

LAYERS = SHAPE["num_hidden_layers"]
WINDOWS = ["sliding_attention"] * (LAYERS - 1) + ["full_attention"]
SLIDING = {"sliding_window": WINDOW, "layer_types": WINDOWS}
UNGROUPED = {"num_key_value_heads": SHAPE["num_attention_heads"]}
# Where the head is the embedding, a large one would say the last token again, for ever.
TIED = {"tie_word_embeddings": True, "initializer_range": 0.005}
GEMMA = {**TIED, "query_pre_attn_scalar": 32}
PER_LAYER = {
    **{"vocab_size_per_layer_input": SHAPE["vocab_size"], "hidden_size_per_layer_input": 32},
    "num_kv_shared_layers": 0,
}
TOP_2 = {"num_experts_per_tok": 2, "moe_intermediate_size": 64}
LOCAL = {"num_local_experts": 8, **TOP_2}
EXPERTS = {"num_experts": 8, **TOP_2, "decoder_sparse_step": 1, "norm_topk_prob": True}
ROUTED = {
    **{"n_routed_experts": 8, "n_shared_experts": 1, "n_group": 1, "topk_group": 1},
    **{"first_k_dense_replace": 1, **TOP_2},
}
LATENT = {
    **{"kv_lora_rank": 32, "q_lora_rank": 32, "v_head_dim": 32, "num_key_value_heads": 4},
    **{"qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "head_dim": 16},
}
YARN = {
    **{"rope_type": "yarn", "type": "yarn", "factor": 4.0, "rope_theta": 10000.0},
    **{"original_max_position_embeddings": 512, "mscale": 1.0, "mscale_all_dim": 1.0},
}
LINEAR = {
    **{"linear_num_value_heads": 4, "linear_num_key_heads": 2},
    **{"linear_key_head_dim": 32, "linear_value_head_dim": 32},
    "layer_types": ["linear_attention"] * (LAYERS - 1) + ["full_attention"],
}
FAMILIES: dict[str, dict[str, Mapping[str, Any]]] = {
    "dense": {
        "llama": {},
        "mistral": {"sliding_window": None},
        "ministral3": {"sliding_window": None},
        "qwen2": {},
        "qwen3": {},
        "phi": {**UNGROUPED, "intermediate_size": 512, "partial_rotary_factor": 0.5},
        "phi3": {},
        "olmo": UNGROUPED,
        "olmo2": {},
        "granite": {},
        "stablelm": {},
        "starcoder2": {"sliding_window": None},
        "glm4": {},
        "cohere": TIED,
        "gemma": TIED,
        "arcee": {},
        "apertus": {},
        "hunyuan_v1_dense": {"use_qk_norm": True},
        "gpt2": {**UNGROUPED, "n_inner": 256},
        "gpt_bigcode": {"num_key_value_heads": 1, "n_inner": 256},
        "gptj": {**UNGROUPED, "n_inner": 256, "rotary_dim": 16},
        "opt": {**UNGROUPED, "ffn_dim": 256, "word_embed_proj_dim": 128},
        "persimmon": UNGROUPED,
        "gpt_neox": UNGROUPED,
        "smollm3": {},
    },
    "sliding windows": {
        "gemma2": {**GEMMA, **SLIDING, "hidden_act": "gelu_pytorch_tanh"},
        "gemma3_text": {**GEMMA, **SLIDING},
        "gemma3n_text": {**GEMMA, **SLIDING, **PER_LAYER, "laurel_rank": 16},
        "gemma4_text": {**GEMMA, **SLIDING, **PER_LAYER, "global_head_dim": 32},
        "cohere2": {**TIED, **SLIDING},
        "exaone4": SLIDING,
        "granite_swa": SLIDING,
        "llama4_text": {**LOCAL, "intermediate_size_mlp": 256, "attention_chunk_size": 64},
    },
    "experts": {
        "mixtral": {**LOCAL, "sliding_window": None},
        "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 64, "mlp_only_layers": []},
        "qwen3_moe": {**EXPERTS, "mlp_only_layers": []},
        "olmoe": {**EXPERTS, **UNGROUPED},
        "granitemoe": LOCAL,
        "granitemoeshared": {**LOCAL, "shared_intermediate_size": 64},
        "granitemoe_swa": {**LOCAL, **SLIDING},
        "glm4_moe": ROUTED,
        "gpt_oss": {**LOCAL, **SLIDING},
        "dbrx": {
            **{"d_model": 128, "n_heads": 4, "n_layers": LAYERS, "max_seq_len": 2048},
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
            "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 8, "moe_top_k": 2},
        },
        "ernie4_5_moe": {"moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": 64},
        "hunyuan_v1_moe": {
            **{"num_experts": 8, "moe_topk": 2, "moe_intermediate_size": 256},
            **{"use_qk_norm": True, "use_mixed_mlp_moe": True, "num_shared_expert": 1},
        },
        "minimax_m2": {**LOCAL, "rotary_dim": 16, "scoring_func": "sigmoid"},
    },
    "multi-head latent attention": {
        "deepseek_v2": {
            **{**ROUTED, **LATENT, "moe_layer_freq": 1, "rope_scaling": YARN},
            **{"scoring_func": "softmax", "topk_method": "greedy"},
        },
        "deepseek_v3": {
            **{**ROUTED, **LATENT, "moe_layer_freq": 1, "rope_scaling": YARN},
            **{"scoring_func": "sigmoid", "topk_method": "noaux_tc"},
        },
        "glm4_moe_lite": {**ROUTED, **LATENT},
        "minicpm3": LATENT,
    },
    "recurrent state": {
        "qwen3_next": {**EXPERTS, **LINEAR, "shared_expert_intermediate_size": 64},
        "qwen3_5_text": LINEAR,
        "falcon_h1": {"mamba_d_ssm": 128, "mamba_n_heads": 4, "mamba_d_head": 32},
        "mamba": {"state_size": 16},
        "lfm2": {"layer_types": ["conv"] * (LAYERS - 1) + ["full_attention"]},
        "granitemoehybrid": {
            **LOCAL,
            **{"shared_intermediate_size": 64, "mamba_n_heads": 8, "mamba_d_head": 32},
            "layer_types": ["mamba"] * (LAYERS - 1) + ["attention"],
        },
    },
}
ARCHITECTURES = {name: more for family in FAMILIES.values() for name, more in family.items()}
# Of models for which SGLang would make another KV pool, for their sliding windows.
ONE_POOL = ("--disable-hybrid-swa-memory",)
FLAGS = {name: ONE_POOL for name in ("gemma4_text", "granite_swa", "granitemoe_swa", "gpt_oss")}

_BACKENDS = "SGLang has a list of attention backends for it, and none of them runs on a plain CPU"
_ROWS = "SGLang takes the rows of its queries, one for each head, for padding, and cuts them off"
_STATE = "recurrent state: no pass of llm42 keeps it; SGLang says this before llm42 does"
# What a verdict does not say by itself.
CAUSES = {
    **dict.fromkeys(("gpt_oss", "gemma4_text", "exaone4"), _BACKENDS),
    **dict.fromkeys(("hunyuan_v1_dense", "hunyuan_v1_moe"), _ROWS),
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "falcon_h1", "granitemoehybrid"), _STATE),
    "lfm2": _STATE,
    "mamba": "SGLang's kernels of Mamba cannot be imported without an accelerator",
    "llama4_text": "it attends in chunks, and SGLang's class for texts loads no experts",
    "dbrx": "transformers does not read the configuration that it has written",
    "gemma3n_text": "SGLang pads layers on a CPU, and expects one `intermediate_size` for all",
    "ernie4_5_moe": "SGLang's top-k for CPUs does not take its bias, which has two dimensions",
}


def config_of(model_type: str) -> PretrainedConfig:
    """The configuration of the tiny model of this type."""
    return AutoConfig.for_model(model_type, **SHAPE | ARCHITECTURES[model_type])


def make(model_type: str, folder: Path) -> Path:
    """The model's folder, made in `folder`."""
    path = folder / model_type
    save(config_of(model_type), path)
    return path
