"""Server modes that deterministic service does not support: refused at start-up, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sglang.srt.arg_groups.overrides import resolving_view
from sglang.srt.server_args import ServerArgs

from llm42_sglang.core.config import Config


class UnsupportedError(ValueError):
    """The server cannot be started in this mode; the message names the flag and the remedy."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One flag that must keep its plain value."""

    flag: str
    is_set: Callable[[Any], bool]


def _on(field: str) -> Limit:
    return Limit(f"--{field.replace('_', '-')}", lambda args: bool(getattr(args, field)))


def _above_one(field: str) -> Limit:
    return Limit(f"--{field.replace('_', '-')}", lambda args: (getattr(args, field) or 1) > 1)


LIMITS: tuple[Limit, ...] = (
    _above_one("tp_size"),
    _above_one("pp_size"),
    _above_one("dp_size"),
    _above_one("tokenizer_worker_num"),
    _on("speculative_algorithm"),
    _on("enable_lora"),
    _on("enable_mixed_chunk"),
    _on("enable_hierarchical_cache"),
    _on("enable_lmcache"),
    _on("enable_flexkv"),
    _on("enable_unified_memory"),
    _on("enable_hisparse"),
    _on("enable_pdmux"),
    _on("enable_two_batch_overlap"),
    _on("enable_streaming_session"),
    _on("enable_session_radix_cache"),
    _on("dllm_algorithm"),
    _on("is_embedding"),
    _on("enable_memory_saver"),
    _on("smg_grpc_mode"),
    _on("grpc_mode"),
    _on("use_ray"),
    _on("encoder_only"),
    # Only xgrammar takes tokens back; a grammar must follow candidates that may be rolled back.
    Limit("--grammar-backend", lambda args: args.grammar_backend not in ("xgrammar", "none", None)),
    Limit("--disaggregation-mode", lambda args: args.disaggregation_mode != "null"),
)


def require_whole_pages(context_len: int, config: Config) -> None:
    """Raise UnsupportedError unless the context ends with a page.

    A pass covers whole pages; the last one must fit into the request's row and the position table.
    """
    whole = context_len - context_len % config.page
    if whole != context_len:
        raise UnsupportedError(
            f"the context of {context_len} tokens does not end with a page of {config.page}; "
            f"add --context-length {whole}"
        )


def require_supported(server_args: ServerArgs, config: Config) -> None:
    """Raise UnsupportedError naming the first flag that rules deterministic service out."""
    args = resolving_view(server_args)
    for limit in LIMITS:
        if limit.is_set(args):
            raise UnsupportedError(
                f"{limit.flag} is not supported with deterministic service yet; drop it, "
                "or serve without llm42"
            )
    if args.page_size != config.page:
        raise UnsupportedError(
            f"--page-size {args.page_size} differs from --llm42-page {config.page}; "
            "drop --page-size: the two are one setting"
        )
