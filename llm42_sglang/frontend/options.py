"""Which request options can be kept deterministic, and which are refused by name.

A deterministic request with an option that is not supported gets HTTP 400. It is never served as an
ordinary one instead. The functions take both of SGLang's request objects: the one from HTTP, and
the tokenized one.
"""

from collections.abc import Mapping
from typing import Any

FIELD = "deterministic"  # in custom_params, where every other spelling is moved to
CONSTRAINTS = ("regex", "json_schema", "ebnf", "structural_tag")


class Refused(ValueError):
    """The request cannot be served as asked. SGLang turns this into an HTTP error.

    The message is one line: it names the option and says what is wrong with it.
    """

    def __init__(self, message: str, status_code: int = 400):
        super().__init__(message)
        self.status_code = status_code


def asks_for_determinism(custom_params: Mapping[str, Any] | None, default: bool = False) -> bool:
    """Whether a request is deterministic: what it says itself, or else the server's default.

    Raises Refused for a value that is neither true nor false. The message names the field alone,
    for the user may have written it elsewhere than in `custom_params`.
    """
    if not isinstance(custom_params, Mapping | None):
        raise Refused(f"custom_params must be an object, got {custom_params!r:.40}")
    value = (custom_params or {}).get(FIELD)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise Refused(f"{FIELD} must be true or false, got {value!r:.40}")
    return value


_NOT_KEPT = "it is read from rows that are not kept"
_NOT_IN_PASS = "canonical passes do not support it"
_CACHE = "send the whole conversation instead: the prefix cache knows its beginning"

# The options that a deterministic request may not have, as the user writes them, and why.
REFUSED = {
    "beam_width": "several hypotheses share one request",
    "watermark": "it draws tokens in its own way",
    "custom_logit_processor": "nobody can vouch for the determinism of foreign code",
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
# Options that the tokenized request holds under another name.
_TOKENIZED = {"lora_path": "lora_id", "image_data": "mm_inputs"}


def _is_set(name: str, params: Any, request: Any) -> bool:
    if name == "beam_width":
        return params.beam_width not in (1, None)
    if name == "watermark":
        return bool(params.watermark)
    fields = (name, _TOKENIZED.get(name, name))
    return any(_is_true(getattr(request, field, None)) for field in fields)


def _is_true(value: Any) -> bool:
    """A batch has a list of values, of which one true one is enough."""
    return any(map(_is_true, value)) if isinstance(value, list | tuple) else bool(value)


def refuse_unsupported(params: Any, request: Any) -> None:
    """Raise Refused, with the names of all options that a deterministic request may not have."""
    refused = [name for name in REFUSED if _is_set(name, params, request)]
    if refused:
        reasons = "; ".join(dict.fromkeys(REFUSED[name] for name in refused))
        raise Refused(
            f"{', '.join(refused)}: not supported in a deterministic request ({reasons}); "
            f"leave it out, or set {FIELD} to false"
        )


def refuse_reserved_key(extra_key: Any, namespace: str) -> None:
    """Raise Refused if `extra_key` would reach the prefix cache of deterministic requests.

    The keys of that cache start with `namespace`. Only canonical pages may enter it.
    """
    keys = extra_key if isinstance(extra_key, list) else [extra_key]
    if any(isinstance(key, str) and key.startswith(namespace) for key in keys):
        raise Refused(f"extra_key must not start with {namespace!r}: choose another")
