"""Which request options can be kept deterministic, and which are refused by name.

Never a silent downgrade: a deterministic request with an option that is not supported yet gets
HTTP 400. Both of SGLang's request objects fit: the one from HTTP and the tokenized one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

FIELD = "deterministic"  # of sampling_params.custom_params


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


@dataclass(frozen=True, slots=True)
class Option:
    """An option that is refused beside `deterministic`."""

    name: str  # as the user writes it
    is_set: Callable[[Any, Any], bool]  # (sampling parameters, request) -> bool


def _sampling(name: str, neutral: Any, attribute: str | None = None) -> Option:
    return Option(name, lambda params, _: getattr(params, attribute or name) not in (neutral, None))


def _field(name: str, *attributes: str) -> Option:
    return Option(
        name,
        lambda _, request: any(_given(getattr(request, a, None)) for a in attributes or (name,)),
    )


def _given(value: Any) -> bool:
    """Batches carry lists: one element that is set is enough."""
    return any(map(_given, value)) if isinstance(value, list | tuple) else bool(value)


REFUSED: tuple[Option, ...] = (
    # SGLang turns temperature 0 into top_k 1, which is what greedy means here too.
    Option("temperature", lambda params, _: params.top_k != 1 and params.temperature >= 1e-6),
    _sampling("frequency_penalty", 0.0),
    _sampling("presence_penalty", 0.0),
    _sampling("repetition_penalty", 1.0),
    _sampling("min_new_tokens", 0),
    _sampling("n", 1),
    _sampling("beam_width", 1),
    Option("stop", lambda params, _: bool(params.stop_strs)),
    Option("stop_regex", lambda params, _: bool(params.stop_regex_strs)),
    Option("json_schema", lambda params, _: bool(params.json_schema)),
    Option("regex", lambda params, _: bool(params.regex)),
    Option("ebnf", lambda params, _: bool(params.ebnf)),
    Option("structural_tag", lambda params, _: bool(params.structural_tag)),
    Option("logit_bias", lambda params, _: bool(params.logit_bias)),
    Option("watermark", lambda params, _: bool(params.watermark)),
    _field("return_logprob"),
    _field("top_logprobs_num"),
    _field("token_ids_logprob"),
    _field("return_hidden_states"),
    _field("return_routed_experts"),
    _field("return_indexer_topk"),
    _field("return_sampling_mask"),
    _field("custom_logit_processor"),
    _field("lora_path", "lora_path", "lora_id"),
    _field("input_embeds"),
    _field("positional_embed_overrides"),
    _field("image_data", "image_data", "mm_inputs"),
    _field("video_data"),
    _field("audio_data"),
    _field("session_params"),
    _field("session_id"),
    _field("bootstrap_room"),
    _field("multi_item_delimiter_indices"),
    _field("token_indices_to_pool"),
)


def refuse_unsupported(params: Any, request: Any) -> None:
    """Raise Refused naming the options that a deterministic request may not carry."""
    names = [option.name for option in REFUSED if option.is_set(params, request)]
    if names:
        raise Refused(
            f"{', '.join(names)}: not supported beside deterministic yet; "
            f"drop it, or set custom_params.{FIELD} to false"
        )


def refuse_reserved_key(extra_key: Any, namespace: str) -> None:
    """Raise Refused when a request names the radix-cache namespace of deterministic requests."""
    keys = extra_key if isinstance(extra_key, list) else [extra_key]
    if any(isinstance(key, str) and key.startswith(namespace) for key in keys):
        raise Refused(f"extra_key must not start with {namespace!r}: that namespace is reserved")
