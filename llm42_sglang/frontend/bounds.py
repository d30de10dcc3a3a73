"""What any request must keep to before the scheduler sees it, ordinary requests too.

The scheduler serves everybody: a number past the vocabulary ends it, a count without a limit stalls
it. So each option has a type and a range here, and the refusal names the option. Both of SGLang's
request objects fit: the one from HTTP (`refuse_unbounded`) and the tokenized one, whose prompt is
known (`refuse_unsendable`).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm42_sglang.frontend.options import Refused
from llm42_sglang.frontend.patterns import refuse_large_grammar, refuse_stop_regex

MAX_TOP_LOGPROBS = 1000
MAX_LISTED_LOGPROBS = 500_000  # positions times logprobs of one answer; about a second of JSON
MAX_STOP_LENGTH = 1024  # characters of a stop string: its tail is decoded at every token
MAX_LISTED_IDS = 4096  # of one option
MAX_RID_LENGTH = 256
SAMPLES_PER_BODY = 16  # times --llm42-max-n: prompts times n in one HTTP request
RESERVED_RID = "HEALTH_CHECK"  # SGLang drops the answers of such requests
INT64 = range(-(2**63), 2**63)

_COUNTS = ("max_new_tokens", "min_new_tokens", "n", "beam_width", "stream_interval")
_INTEGERS = (*_COUNTS, "top_k", "sampling_seed")
_PENALTIES = ("frequency_penalty", "presence_penalty", "repetition_penalty")
_NUMBERS = ("temperature", "top_p", "min_p", *_PENALTIES)
_SWITCHES = ("ignore_eos", "skip_special_tokens", "spaces_between_special_tokens", "no_stop_trim")
_GRAMMARS = ("regex", "json_schema", "ebnf", "structural_tag")
_LOGPROB_COUNTS = ("top_logprobs_num", "logprob_start_len")
_POSITIONS = ("multi_item_delimiter_indices", "token_indices_to_pool")
_OBJECTS = ("positional_embed_overrides", "embed_overrides")  # of tensors, which JSON has none of


@dataclass(frozen=True)
class Bounds:
    """What the model and the server allow."""

    vocab_size: int
    max_n: int
    max_prompt_chars: int | None = None  # no longer text fits into the context; None: it is cut


def refuse_unbounded(obj: Any, bounds: Bounds, over_http: bool) -> None:
    """Raise Refused naming what of a request is malformed or past its bound. Nothing is changed."""
    prompts, most = _prompts_of(obj), SAMPLES_PER_BODY * bounds.max_n
    if over_http:
        _require(prompts <= most, f"at most {most} prompts in one request")
    _refuse_prompt(obj, bounds)
    _refuse_rid(getattr(obj, "rid", None))
    _refuse_numbers(obj, bounds)
    if over_http:
        for name in _OBJECTS:
            _require(getattr(obj, name, None) is None, f"{name} cannot be sent over HTTP")
    raw = obj.sampling_params
    each = raw if isinstance(raw, list) else [raw]
    _require(bool(each), "sampling_params: an empty list")
    for params in each:
        _require(isinstance(params, Mapping | None), "sampling_params must be an object")
        refuse_sampling(params or {}, bounds)
    samples = max((params or {}).get("n") or 1 for params in each)
    if isinstance(raw, list):
        _require(len(raw) == prompts, f"sampling_params: {len(raw)} for {prompts} prompts")
    if over_http:
        _require(prompts * samples <= most, f"n times prompts: at most {most} in one request")


def refuse_sampling(params: Mapping[str, Any], bounds: Bounds) -> None:
    """Sampling parameters as they came. Raises Refused."""
    for name in _INTEGERS:
        _refuse_other(name, params.get(name), _is_int, "an integer of 64 bits")
    for name in _NUMBERS:
        _refuse_other(name, params.get(name), _is_finite, "a finite number")
    for name in _SWITCHES:
        _refuse_other(name, params.get(name), lambda value: type(value) is bool, "true or false")
    for name in _COUNTS:
        _require((params.get(name) or 0) >= 0, f"{name} must not be negative")
    for name in ("n", "beam_width"):
        value = params.get(name)
        _require(value is None or value >= 1, f"{name} must be at least 1, got {value}")
        _require(
            (value or 1) <= bounds.max_n,
            f"{name} must be at most {bounds.max_n} (--llm42-max-n), got {value}",
        )
    for text in _texts("stop", params.get("stop")):
        _require(len(text) <= MAX_STOP_LENGTH, f"stop: at most {MAX_STOP_LENGTH} characters each")
    for text in _texts("stop_regex", params.get("stop_regex")):
        refuse_stop_regex(text)
    for name in _GRAMMARS:
        _refuse_other(name, params.get(name), lambda value: isinstance(value, str), "a string")
        refuse_large_grammar(name, params.get(name) or "")
    _refuse_ids("stop_token_ids", params.get("stop_token_ids") or (), bounds.vocab_size)
    _refuse_bias(params.get("logit_bias"), bounds.vocab_size)


def refuse_unsendable(tokenized: Any, bounds: Bounds) -> None:
    """A request whose prompt is known, as it would be sent. Raises Refused."""
    ids = tokenized.input_ids
    if ids is None or tokenized.input_embeds is not None:
        return
    continued = getattr(tokenized, "session_params", None) is not None
    _require(len(ids) > 0 or continued, "text, input_ids: the prompt has no token")
    # Ids of images and of padding, put there by SGLang, lie past the vocabulary.
    if tokenized.mm_inputs is None:
        _refuse_range("input_ids", ids, bounds.vocab_size)
    for name in _POSITIONS:
        _refuse_range(name, getattr(tokenized, name, None) or (), len(ids), "positions")
    if getattr(tokenized, "return_logprob", False):
        _refuse_logprobs(tokenized, len(ids))


def _refuse_logprobs(tokenized: Any, prompt: int) -> None:
    start = tokenized.logprob_start_len
    _require(-1 <= start <= prompt, f"logprob_start_len must be -1 to {prompt}, got {start}")
    scored = prompt - start if start >= 0 else 0
    rows = scored + (tokenized.sampling_params.max_new_tokens or 0)
    each = max(tokenized.top_logprobs_num or 0, len(tokenized.token_ids_logprob or ()))
    _require(
        rows * each <= MAX_LISTED_LOGPROBS,
        f"top_logprobs_num, token_ids_logprob: {rows} positions times {each} are more than "
        f"{MAX_LISTED_LOGPROBS} logprobs in one answer",
    )


def _refuse_prompt(obj: Any, bounds: Bounds) -> None:
    text, ids = obj.text, obj.input_ids
    for each in _leaves(text):
        _require(isinstance(each, str), f"text must be a string or strings, got {each!r:.40}")
        _require(_encodes(each), "text has half of a surrogate pair, which no UTF-8 text has")
    most = bounds.max_prompt_chars
    if most is not None:
        longest = max((len(each) for each in _leaves(text)), default=0)
        _require(
            longest <= most,
            f"text: {longest} characters cannot fit into the context; at most {most} can",
        )
    for name, value in (("text", text), ("input_ids", ids), ("input_embeds", obj.input_embeds)):
        empty = isinstance(value, list) and (not value or any(each == [] for each in value))
        # A session's history may be the whole prompt.
        if not getattr(obj, "session_params", None):
            _require(not empty, f"{name} must not be empty")
    if ids is not None:
        nested = bool(ids) and isinstance(ids[0], list | tuple)
        for each in ids if nested else [ids]:
            _require(isinstance(each, list | tuple), "input_ids: ids and lists of ids are mixed")
            _refuse_range("input_ids", each, bounds.vocab_size)


def _refuse_numbers(obj: Any, bounds: Bounds) -> None:
    for name in _LOGPROB_COUNTS:
        given = getattr(obj, name, None)
        for value in _leaves(given):
            _refuse_other(name, value, _is_int, "an integer")
        if isinstance(given, list):
            batch = isinstance(obj.text, list) or isinstance((obj.input_ids or [0])[0], list)
            good = batch and len(given) == _prompts_of(obj)
            _require(good, f"{name}: a list goes with as many prompts")
    for value in _leaves(getattr(obj, "top_logprobs_num", None)):
        most = min(MAX_TOP_LOGPROBS, bounds.vocab_size)
        _require(0 <= value <= most, f"top_logprobs_num must be 0 to {most}, got {value}")
    ids = list(_leaves(getattr(obj, "token_ids_logprob", None)))
    _refuse_ids("token_ids_logprob", ids, bounds.vocab_size)
    for name, value in vars(obj).items():
        if isinstance(value, int):
            _require(value in INT64, f"{name} must be an integer of 64 bits")


def _refuse_rid(rid: Any) -> None:
    for each in _leaves(rid):
        good = isinstance(each, str) and 0 < len(each) <= MAX_RID_LENGTH and _encodes(each)
        _require(good, f"rid must be a string of 1 to {MAX_RID_LENGTH} characters")


def refuse_reserved_rid(rid: Any) -> None:
    """Raise Refused for an id under which nobody would get an answer."""
    for each in _leaves(rid):
        reserved = isinstance(each, str) and each.startswith(RESERVED_RID)
        _require(not reserved, f"rid must not start with {RESERVED_RID}")


def _refuse_bias(bias: Any, vocab_size: int) -> None:
    _refuse_other("logit_bias", bias, lambda value: isinstance(value, Mapping), "an object")
    for token, value in (bias or {}).items():
        known = str(token).isascii() and str(token).isdigit() and len(str(token)) < 20
        _require(known and int(token) < vocab_size, _range_of("logit_bias", vocab_size))
        _require(_is_finite(value), f"logit_bias must be finite numbers, got {value!r:.40}")


def _refuse_ids(name: str, ids: Any, vocab_size: int) -> None:
    good = isinstance(ids, list | tuple | set | frozenset)
    _require(good, f"{name} must be a list of token ids")
    _require(len(ids) <= MAX_LISTED_IDS, f"{name}: at most {MAX_LISTED_IDS} ids")
    _refuse_range(name, ids, vocab_size)


def _refuse_range(name: str, ids: Iterable[Any], size: int, what: str = "token ids") -> None:
    values = list(ids)
    _require(all(type(each) is int for each in values), f"{name} must be integers")
    good = not values or (min(values) >= 0 and max(values) < size)
    _require(good, _range_of(name, size, what))


def _range_of(name: str, size: int, what: str = "token ids") -> str:
    return f"{name}: valid {what} are 0 to {size - 1}"


def _refuse_other(name: str, value: Any, good: Any, what: str) -> None:
    _require(value is None or good(value), f"{name} must be {what}, got {value!r:.40}")


def _texts(name: str, value: Any) -> Sequence[str]:
    texts = [value] if isinstance(value, str) else (value if value is not None else [])
    good = isinstance(texts, list | tuple) and all(isinstance(each, str) for each in texts)
    _require(good, f"{name} must be a string or a list of strings")
    _require(all(map(_encodes, texts)), f"{name} has half of a surrogate pair")
    return texts


def _prompts_of(obj: Any) -> int:
    if isinstance(obj.text, list):
        return len(obj.text)
    ids = obj.input_ids
    nested = obj.text is None and isinstance(ids, list) and ids and isinstance(ids[0], list | tuple)
    return len(ids) if nested else 1


def _leaves(value: Any) -> Iterable[Any]:
    """The values in nested lists; nothing for None."""
    if isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each)
    elif value is not None:
        yield value


def _is_int(value: Any) -> bool:
    return type(value) is int and value in INT64


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _require(good: bool, message: str) -> None:
    if not good:
        raise Refused(message)
