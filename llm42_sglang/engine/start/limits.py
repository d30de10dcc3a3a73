"""Features of SGLang that deterministic service does not support. Start-up refuses them by name."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sglang.srt.arg_groups.overrides import attention_backends_of, resolving_view
from sglang.srt.server_args import ServerArgs

from llm42_sglang.core.config import Config
from llm42_sglang.engine.errors import UnsupportedError
from llm42_sglang.engine.passes.backends import require_known


@dataclass(frozen=True, slots=True)
class Limit:
    """One flag that must keep its default, or another harmless value."""

    flag: str
    is_set: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of SGLang that is refused, and the flags that turn it on."""

    name: str
    why: str
    limits: tuple[Limit, ...]


def _limits(is_refused: Callable[[Any], bool], *fields: str) -> tuple[Limit, ...]:
    def of(field: str) -> Limit:
        flag = f"--{field.replace('_', '-')}"
        return Limit(flag, lambda args: is_refused(getattr(args, field)))

    return tuple(map(of, fields))


def _not(plain: str, *fields: str) -> tuple[Limit, ...]:
    return _limits(lambda value: value not in (plain, None), *fields)


_on = partial(_limits, bool)
_above_one = partial(_limits, lambda value: (value or 1) > 1)
_OTHER_ADDRESS = "SGLANG_DISTRIBUTED_INIT_METHOD_OVERRIDE"  # where ranks meet instead
_TUNED = ("moe_runner_backend", "fp8_gemm_runner_backend", "fp4_gemm_runner_backend")


def _autotuned(args: Any) -> bool:
    """Whether FlashInfer might choose kernels by measuring them at every start.

    It may if its kernels are asked for. It may also if weights are quantized, for then SGLang
    chooses by the GPU.
    """
    if args.disable_flashinfer_autotune:
        return False
    chosen = (str(getattr(args, field)) for field in _TUNED)
    return args.quantization is not None or any(c.startswith("flashinfer") for c in chosen)


FEATURES: tuple[Feature, ...] = (
    Feature(
        "speculative decoding",
        "it verifies drafts in shapes that follow the load, before a canonical pass sees them",
        (*_on("speculative_algorithm"), *_not("null", "decoupled_spec_role")),
    ),
    Feature(
        "SGLang's own deterministic modes",
        "they replace the kernels of all requests, and deterministic service does not need that",
        _on("enable_deterministic_inference", "rl_on_policy_target"),
    ),
    Feature(
        "PD disaggregation",
        "a decode server cannot tell whether the KV that it receives is canonical",
        _not("null", "disaggregation_mode"),
    ),
    Feature(
        "hierarchical and external caches",
        "a page that comes back from elsewhere brings no proof that it is canonical",
        _on(
            "enable_hierarchical_cache",
            "enable_lmcache",
            "enable_flexkv",
            "enable_unified_cache_external_linker",
            "radix_cache_backend",
        ),
    ),
    Feature(
        "LoRA",
        "adapters are grouped by what else is in the batch, and no fingerprint covers them",
        _on("enable_lora", "lora_paths"),
    ),
    Feature(
        "expert parallelism",
        "a token goes to the ranks of its experts, so what a rank computes follows the load",
        (*_above_one("ep_size", "dwdp_size", "moe_dp_size"), *_on("elastic_ep_backend")),
    ),
    Feature(
        "pipeline parallelism",
        "a stage sees only a part of a canonical pass, and its micro-batches follow the load",
        _above_one("pp_size"),
    ),
    Feature(
        "DP attention",
        "ranks pad their batches to each other's load; use --dp-size without it",
        _on("enable_dp_attention"),
    ),
    Feature(
        "context parallelism, sharded KV",
        "the context of a row is divided over ranks",
        (
            *_above_one("dcp_size", "attn_cp_size"),
            *_on("enable_prefill_cp", "enable_kv_cache_sharding"),
        ),
    ),
    Feature(
        "mixed chunks, batch overlap, PD multiplexing",
        "what else is waiting would decide what a forward holds, or where it is cut in two",
        _on(
            "enable_mixed_chunk",
            "enable_two_batch_overlap",
            "enable_single_batch_overlap",
            "enable_pdmux",
        ),
    ),
    Feature(
        "unified and sparse KV pools",
        "a page would not stay in the KV slots where a pass has written it",
        _on("enable_unified_memory", "enable_hisparse"),
    ),
    Feature(
        "sessions",
        "they reuse KV that no canonical pass has written",
        _on("enable_streaming_session", "enable_session_radix_cache"),
    ),
    Feature(
        "diffusion models, embeddings, encoder-only servers",
        "nothing is generated token by token",
        _on("dllm_algorithm", "is_embedding", "encoder_only"),
    ),
    Feature(
        "weights written from outside (transfer engine)",
        "the fingerprint cannot see them change",
        _on("remote_instance_weight_loader_start_seed_via_transfer_engine"),
    ),
    Feature(
        "memory saver",
        "weights and KV may be dropped and loaded again under one fingerprint",
        _on("enable_memory_saver"),
    ),
    Feature(
        "several tokenizer processes, gRPC, Ray",
        "they start processes that the hooks do not reach",
        (*_above_one("tokenizer_worker_num"), *_on("smg_grpc_mode", "grpc_mode", "use_ray")),
    ),
    Feature(
        "grammar backends other than xgrammar",
        "a rollback takes tokens back from the grammar, and only xgrammar can do that",
        _limits(lambda value: value not in ("xgrammar", "none", None), "grammar_backend"),
    ),
    Feature(
        "kernels tuned at start-up",
        "the next start may choose other kernels, other bits; add --disable-flashinfer-autotune",
        (Limit("--moe-runner-backend flashinfer_… (fp8, fp4, --quantization)", _autotuned),),
    ),
)


def table() -> str:
    """Return what is refused at start-up, as a Markdown table for the documentation."""
    rows = ["| refused at start-up | flags | why |", "|---|---|---|"]
    for feature in FEATURES:
        flags = ", ".join(f"`{limit.flag}`" for limit in feature.limits)
        rows.append(f"| {feature.name} | {flags} | {feature.why} |")
    return "\n".join(rows)


def require_whole_pages(context_len: int, config: Config) -> None:
    """Raise UnsupportedError unless the context ends with a page.

    A pass covers whole pages. The last one must fit into the request's row and the position table.
    """
    whole = context_len - context_len % config.page
    if whole != context_len:
        raise UnsupportedError(
            f"the context of {context_len} tokens does not end with a page of {config.page}; "
            f"add --context-length {whole}"
        )


def require_address(args: Any) -> None:
    """Raise UnsupportedError unless several nodes can find each other."""
    if args.nnodes == 1:
        return
    if args.dist_init_addr is None:
        raise UnsupportedError(
            f"--nnodes {args.nnodes} needs --dist-init-addr HOST:PORT: a free port of node 0, "
            "the same on all nodes"
        )
    if not 0 <= args.node_rank < args.nnodes:
        raise UnsupportedError(
            f"--node-rank {args.node_rank} is not one of {args.nnodes} nodes; choose 0 to "
            f"{args.nnodes - 1}"
        )
    if os.environ.get(_OTHER_ADDRESS):
        raise UnsupportedError(f"{_OTHER_ADDRESS} is not supported with --nnodes; unset it")


def require_supported(server_args: ServerArgs, config: Config) -> None:
    """Raise UnsupportedError, with its name, for the first flag that is refused."""
    args = resolving_view(server_args)
    for feature in FEATURES:
        for limit in feature.limits:
            if limit.is_set(args):
                raise UnsupportedError(
                    f"{limit.flag} ({feature.name}) is not supported with deterministic service: "
                    f"{feature.why}; leave it out, or serve without llm42"
                )
    require_address(args)
    require_known(attention_backends_of(args)[0])  # canonical passes are prefills
    if args.page_size != config.page:
        raise UnsupportedError(
            f"--page-size {args.page_size} differs from --llm42-page {config.page}; "
            "leave out --page-size, for the two are one setting"
        )


if __name__ == "__main__":
    print(table())
