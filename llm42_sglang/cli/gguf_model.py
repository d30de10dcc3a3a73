"""From a GGUF file of the llama architecture to a Hugging Face model folder.

Only what the embedded default model needs: `llama` architecture, `gpt2` vocabulary with the
`smollm` pre-tokenizer. transformers can read GGUF too, but only with one more package, and with
another pre-tokenizer.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm42_sglang.cli.gguf_tokenizer import write_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader

SUPPORTED = {
    "general.architecture": "llama",
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
}
TOP_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert(gguf_file: Path, folder: Path) -> None:
    """Write config, generation config, bf16 safetensors and tokenizer into the existing `folder`.

    Raises ValueError for a GGUF file of another architecture or tokenizer.
    """
    from gguf import GGUFReader

    reader = GGUFReader(gguf_file)
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    for key, wanted in SUPPORTED.items():
        if metadata.get(key) != wanted:
            raise ValueError(f"{gguf_file}: {key} is {metadata.get(key)!r}, expected {wanted!r}")
    tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    _write_json(folder / "config.json", model_config(metadata, tied))
    _write_json(folder / "generation_config.json", _token_ids(metadata))
    write_tokenizer(metadata, folder)
    _write_weights(reader, metadata, folder / "model.safetensors")


def model_config(metadata: dict[str, Any], tied: bool) -> dict[str, Any]:
    """The content of config.json; `tied`: the embedding matrix is the language-model head too."""
    import numpy as np

    llama = {k.removeprefix("llama."): v for k, v in metadata.items() if k.startswith("llama.")}
    # GGUF stores a float32; its shortest decimal form is the number that was meant (1e-05).
    rms_norm_eps = float(str(np.float32(llama["attention.layer_norm_rms_epsilon"])))
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": llama["vocab_size"],
        "hidden_size": llama["embedding_length"],
        "intermediate_size": llama["feed_forward_length"],
        "num_hidden_layers": llama["block_count"],
        "num_attention_heads": llama["attention.head_count"],
        "num_key_value_heads": llama["attention.head_count_kv"],
        "head_dim": llama["rope.dimension_count"],
        "max_position_embeddings": llama["context_length"],
        "rope_theta": llama["rope.freq_base"],
        "rms_norm_eps": rms_norm_eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        **_token_ids(metadata),
    }


def tensor_name(gguf_name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`. KeyError if unknown."""
    match gguf_name.split("."):
        case ["blk", layer, part, "weight"]:
            return f"model.layers.{layer}.{BLOCK_NAMES[part]}.weight"
        case [part, "weight"]:
            return f"{TOP_NAMES[part]}.weight"
    raise KeyError(gguf_name)


def unpermute(rows: "np.ndarray", heads: int) -> "np.ndarray":
    """Undo llama.cpp's order of the rows of a query or key projection; rows: [heads * dim, in].

    Rotary embedding turns pairs of rows. llama.cpp stores the two of a pair side by side,
    transformers and SGLang store them half a head apart.
    """
    pairs = rows.reshape(heads, -1, 2, rows.shape[1])  # [heads, dim / 2, 2, in]
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _write_weights(reader: "GGUFReader", metadata: dict[str, Any], file: Path) -> None:
    import torch
    from gguf import dequantize
    from safetensors.torch import save_file

    heads = {
        "attn_q": metadata["llama.attention.head_count"],
        "attn_k": metadata["llama.attention.head_count_kv"],
    }
    weights = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)  # fp32, [out, in] or [out]
        part = tensor.name.split(".")[-2]
        if part in heads:
            values = unpermute(values, heads[part])
        weights[tensor_name(tensor.name)] = torch.tensor(values, dtype=torch.bfloat16)
    save_file(weights, file, metadata={"format": "pt"})


def _token_ids(metadata: dict[str, Any]) -> dict[str, int]:
    return {
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "pad_token_id": metadata["tokenizer.ggml.padding_token_id"],
    }


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
