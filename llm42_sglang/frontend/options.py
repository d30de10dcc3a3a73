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
    why: str
    is_set: Callable[[Any, Any], bool]  # (sampling parameters, request) -> bool


def _sampling(name: str, neutral: Any, why: str) -> Option:
    return Option(name, why, lambda params, _: getattr(params, name) not in (neutral, None))


def _field(name: str, why: str, *attributes: str) -> Option:
    return Option(
        name,
        why,
        lambda _, request: any(_given(getattr(request, a, None)) for a in attributes or (name,)),
    )


def _given(value: Any) -> bool:
    """Batches carry lists: one element that is set is enough."""
    return any(map(_given, value)) if isinstance(value, list | tuple) else bool(value)


_NOT_KEPT = "is read from rows that are not kept"
_OWN_CODE = "is code whose determinism nobody can vouch for"
_NOT_IN_PASS = "is not part of a canonical pass"

REFUSED: tuple[Option, ...] = (
    _sampling("beam_width", 1, "several hypotheses share one request"),
    Option("watermark", "draws its own tokens", lambda params, _: bool(params.watermark)),
    _field("custom_logit_processor", _OWN_CODE),
    _field("return_hidden_states", _NOT_KEPT),
    _field("return_routed_experts", _NOT_KEPT),
    _field("return_indexer_topk", _NOT_KEPT),
    _field("return_sampling_mask", _NOT_KEPT),
    _field("return_entropy", _NOT_KEPT),
    _field("return_flat_raw_top_logprobs", "use top_logprobs_num without it"),
    _field("lora_path", _NOT_IN_PASS, "lora_path", "lora_id"),
    _field("input_embeds", _NOT_IN_PASS),
    _field("positional_embed_overrides", _NOT_IN_PASS),
    _field("image_data", _NOT_IN_PASS, "image_data", "mm_inputs"),
    _field("video_data", _NOT_IN_PASS),
    _field("audio_data", _NOT_IN_PASS),
    _field("session_params", "use the prefix cache: send the whole conversation"),
    _field("session_id", "use the prefix cache: send the whole conversation"),
    _field("bootstrap_room", "disaggregated serving is not supported"),
    _field("multi_item_delimiter_indices", _NOT_IN_PASS),
    _field("token_indices_to_pool", _NOT_IN_PASS),
)

# What a deterministic request may carry, for the README's table.
SUPPORTED: tuple[tuple[str, str], ...] = (
    (
        "`temperature`, `top_k`, `top_p`, `min_p`, `sampling_seed`",
        "drawn row by row; the noise is a function of seed, position and token id. "
        "Without a seed: 42, and the receipt says so",
    ),
    ("`n`", "sample i draws with seed + i"),
    (
        "`frequency_penalty`, `presence_penalty`, `repetition_penalty`, `logit_bias`",
        "functions of the committed tokens",
    ),
    ("`max_new_tokens`, `min_new_tokens`, `ignore_eos`", "decided on committed tokens"),
    ("`stop`, `stop_token_ids`, `stop_regex`", "decided on committed tokens, one at a time"),
    (
        "`regex`, `json_schema`, `ebnf`, `structural_tag`",
        "xgrammar; the grammar follows committed tokens",
    ),
    (
        "`return_logprob`, `logprob_start_len`, `top_logprobs_num`, `token_ids_logprob`",
        "from canonical rows: log_softmax of the raw logits, before temperature and penalties, so "
        "that scoring a text and generating it give the same bits",
    ),
    ("`stream`", "committed tokens only, in runs of up to T"),
)


def table() -> str:
    """The request options, as the README shows them (Markdown)."""
    rows = ["| option | beside `deterministic` |", "|---|---|"]
    rows += [f"| {names} | {how} |" for names, how in SUPPORTED]
    rows += [f"| `{option.name}` | HTTP 400: {option.why} |" for option in REFUSED]
    return "\n".join(rows)


def refuse_unsupported(params: Any, request: Any) -> None:
    """Raise Refused naming the options that a deterministic request may not carry."""
    refused = [option for option in REFUSED if option.is_set(params, request)]
    if refused:
        names = ", ".join(option.name for option in refused)
        reasons = "; ".join(dict.fromkeys(option.why for option in refused))
        raise Refused(
            f"{names}: not supported beside deterministic ({reasons}); "
            f"drop it, or set custom_params.{FIELD} to false"
        )


def refuse_reserved_key(extra_key: Any, namespace: str) -> None:
    """Raise Refused when a request names the radix-cache namespace of deterministic requests."""
    keys = extra_key if isinstance(extra_key, list) else [extra_key]
    if any(isinstance(key, str) and key.startswith(namespace) for key in keys):
        raise Refused(f"extra_key must not start with {namespace!r}: that namespace is reserved")


if __name__ == "__main__":
    print(table())
