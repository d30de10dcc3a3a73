"""Which request options can be kept deterministic, and which are refused by name.

Never a silent downgrade: a deterministic request with an option that is not supported yet gets
HTTP 400. Both of SGLang's request objects fit: the one from HTTP and the tokenized one.
"""

from collections.abc import Mapping
from typing import Any

FIELD = "deterministic"  # of sampling_params.custom_params
CONSTRAINTS = ("regex", "json_schema", "ebnf", "structural_tag")


class Refused(ValueError):
    """The request cannot be served as asked; SGLang turns it into an HTTP error."""

    def __init__(self, message: str, status_code: int = 400):
        super().__init__(message)
        self.status_code = status_code


def asks_for_determinism(custom_params: Mapping[str, Any] | None, default: bool = False) -> bool:
    """The request's own word, else the server's default. Raises Refused on a value not boolean."""
    if not isinstance(custom_params, Mapping | None):
        raise Refused(f"custom_params must be an object, got {custom_params!r}")
    value = (custom_params or {}).get(FIELD)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise Refused(f"custom_params.{FIELD} must be true or false, got {value!r}")
    return value


_NOT_KEPT = "is read from rows that are not kept"
_NOT_IN_PASS = "is not part of a canonical pass"
_CACHE = "use the prefix cache: send the whole conversation"

# What is refused beside `deterministic`: the option as the user writes it, and why.
REFUSED = {
    "beam_width": "several hypotheses share one request",
    "watermark": "draws its own tokens",
    "custom_logit_processor": "is code whose determinism nobody can vouch for",
    "return_hidden_states": _NOT_KEPT,
    "return_routed_experts": _NOT_KEPT,
    "return_indexer_topk": _NOT_KEPT,
    "return_sampling_mask": _NOT_KEPT,
    "return_entropy": _NOT_KEPT,
    "return_flat_raw_top_logprobs": "use top_logprobs_num without it",
    "lora_path": _NOT_IN_PASS,
    "input_embeds": _NOT_IN_PASS,
    "positional_embed_overrides": _NOT_IN_PASS,
    "image_data": _NOT_IN_PASS,
    "video_data": _NOT_IN_PASS,
    "audio_data": _NOT_IN_PASS,
    "session_params": _CACHE,
    "session_id": _CACHE,
    "bootstrap_room": "disaggregated serving is not supported",
    "multi_item_delimiter_indices": _NOT_IN_PASS,
    "token_indices_to_pool": _NOT_IN_PASS,
}
# Fields of the tokenized request that hold an option under another name.
_TOKENIZED = {"lora_path": "lora_id", "image_data": "mm_inputs"}


def _is_set(name: str, params: Any, request: Any) -> bool:
    if name == "beam_width":
        return params.beam_width not in (1, None)
    if name == "watermark":
        return bool(params.watermark)
    fields = (name, _TOKENIZED.get(name, name))
    return any(_given(getattr(request, one, None)) for one in fields)


def _given(value: Any) -> bool:
    """Batches carry lists: one element that is set is enough."""
    return any(map(_given, value)) if isinstance(value, list | tuple) else bool(value)


def refuse_unsupported(params: Any, request: Any) -> None:
    """Raise Refused naming the options that a deterministic request may not carry."""
    refused = [name for name in REFUSED if _is_set(name, params, request)]
    if refused:
        reasons = "; ".join(dict.fromkeys(REFUSED[name] for name in refused))
        raise Refused(
            f"{', '.join(refused)}: not supported beside deterministic ({reasons}); "
            f"drop it, or set custom_params.{FIELD} to false"
        )


def refuse_reserved_key(extra_key: Any, namespace: str) -> None:
    """Raise Refused when a request names the radix-cache namespace of deterministic requests."""
    keys = extra_key if isinstance(extra_key, list) else [extra_key]
    if any(isinstance(key, str) and key.startswith(namespace) for key in keys):
        raise Refused(f"extra_key must not start with {namespace!r}: that namespace is reserved")
