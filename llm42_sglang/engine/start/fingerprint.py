"""The facts that the fingerprint is a hash of: all that may change a bit of an answer.

They are what canonical rows depend on, such as the weights, and what turns rows into tokens, such
as the tokenizer, grammars and limits.
"""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from sglang.srt.arg_groups.overrides import resolving_view
from sglang.srt.configs.model_config import ModelConfig
from sglang.srt.model_executor.model_runner import ModelRunner
from sglang.srt.server_args import ServerArgs
from sglang.version import __version__ as sglang_version
from transformers import PretrainedConfig

from llm42_sglang import __version__
from llm42_sglang.core.config import Config

# Server flags that choose kernels or precision, or shape constrained and limited output.
_FLAGS = (
    "constrained_json_disable_any_whitespace",
    "constrained_json_max_whitespace_cnt",
    "constrained_json_whitespace_pattern",
    "enable_strict_thinking",
    "grammar_backend",
    "reasoning_parser",
    "tool_call_parser",  # it makes the grammar of a required call
    "quantization",
    "enable_fp32_lm_head",
    "bf16_gemm_backend",
    "fp8_gemm_runner_backend",
    "fp4_gemm_runner_backend",
    "moe_runner_backend",
    "enable_tf32_matmul",
    "boundary_reduction",
    "enable_fused_moe_sum_all_reduce",
    "flashinfer_allreduce_fusion_backend",
    "enforce_disable_flashinfer_allreduce_fusion",
    "disable_custom_all_reduce",
    "enable_mscclpp",
    "enable_symm_mem",
    "enable_torch_symm_mem",
    "enable_nccl_nvls",
    "enable_torch_compile",
)
_LIMITS = ("SGLANG_MAX_NEW_TOKENS_LIMIT", "SGLANG_MAX_THINK_TOKENS")
# Prefixes of environment variables by which libraries choose kernels and algorithms.
_LIBRARIES = ("NCCL_", "ONEDNN_", "DNNL_", "MKL_", "SGLANG_OPT_USE_CUSTOM_ALL_REDUCE_V2")
# Of these, the names of a node's own network devices.
_DEVICES = ("NCCL_SOCKET_IFNAME", "NCCL_IB_HCA", "NCCL_OOB_NET_IFNAME")
# Packages with kernels, besides SGLang and torch. A CPU server uses none of them.
_KERNELS = ("sglang-kernel", "flashinfer-python", "flash-attn-4", "triton")
_NOT_OF_THE_MODEL = ("_name_or_path", "name_or_path", "transformers_version")


def facts_of(
    runner: ModelRunner,
    config: Config,
    tokenizer: Any,
    max_req_len: int,
) -> dict[str, object]:
    """Return the facts by name, in JSON types, but for those of the weights: see `weights`.

    tokenizer: None if the server has none. max_req_len: tokens of prompt and output together.
    """
    args = resolving_view(runner.server_args)
    facts: dict[str, object] = {
        **package_versions(),
        "model": model_facts(runner.model_config.hf_config),
        "dtype": str(runner.dtype),
        "kv_dtype": str(runner.kv_cache_dtype),
        "page": config.page,
        "group": config.group,
        "tp": args.tp_size,
        "pp": args.pp_size,
        "nodes": args.nnodes,
        "attention": runner.prefill_attention_backend_str,
        "eos": sorted(runner.model_config.hf_eos_token_id or ()),
        "tokenizer": tokenizer_digest(tokenizer),
        "sampling": sampling_defaults(args, runner.model_config),
        "limits": [max_req_len, *map(os.environ.get, _LIMITS)],
        "libraries": library_variables(),
        "flags": {flag: str(getattr(args, flag)) for flag in _FLAGS},
        "device": device_name(runner.device),
        "threads": torch.get_num_threads(),
    }
    if args.nnodes == 1:
        del facts["nodes"]  # so that it has the fingerprint that it had before there were several
    return facts


def sampling_defaults(args: ServerArgs, model: ModelConfig) -> dict[str, object]:
    """Return the sampling parameters of a request that names none.

    /generate uses those of --preferred-sampling-params. The OpenAI endpoints use those of the
    model's generation_config.json, unless a flag says otherwise.
    """
    preferred = args.preferred_sampling_params or {}
    if isinstance(preferred, str):
        preferred = json.loads(preferred)
    return {"preferred": preferred, "of the model": model.get_default_sampling_params()}


def library_variables() -> dict[str, str]:
    """Return the environment variables that may choose kernels or algorithms, with their values."""
    return {name: os.environ[name] for name in sorted(os.environ) if name.startswith(_LIBRARIES)}


def of_all_nodes(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that must be the same on all nodes: not the names of devices."""
    return {name: value for name, value in variables.items() if name not in _DEVICES}


def package_versions() -> dict[str, object]:
    """Return the versions of all packages that may change a bit."""
    return {
        "llm42": __version__,
        "sglang": sglang_version,
        "torch": torch.__version__,
        "xgrammar": version("xgrammar"),
        "transformers": version("transformers"),
        "kernels": kernel_versions(),
    }


def kernel_versions() -> dict[str, str | None]:
    """Return the versions of packages with kernels, None if not installed, and torch's CUDA."""
    versions: dict[str, str | None] = {"cuda": torch.version.cuda}
    for package in _KERNELS:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def model_facts(hf_config: PretrainedConfig) -> dict[str, object]:
    """Return what the weights do not say, such as rotary base, epsilons and scalings.

    Where the model lies is left out.
    """
    facts = json.loads(hf_config.to_json_string(use_diff=False))
    return {name: fact for name, fact in facts.items() if name not in _NOT_OF_THE_MODEL}


def tokenizer_digest(tokenizer: Any) -> str | None:
    """Return SHA-256 over the vocabulary, which is what a grammar knows of token ids."""
    if tokenizer is None:
        return None
    return hashlib.sha256(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest()


def device_name(device: str) -> str:
    """Return the GPU's name, or the CPU's architecture and vector extension."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name()
    tiles = " AMX" * torch.cpu._is_amx_tile_supported()  # torch's word for it is AVX512
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}{tiles}"
