"""The type and the range of every request option. They hold for ordinary requests too.

One scheduler serves all requests. A token id past the vocabulary would end it, and a count without
a limit would stall it. So a request is checked before the scheduler sees it, and the refusal names
the option. `refuse_unbounded` checks the request as it comes from HTTP. `refuse_unsendable` checks
the tokenized request, whose prompt is known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm42_sglang.core.seeds import FRESH
from llm42_sglang.frontend.claims import CLAIM, claim_of
from llm42_sglang.frontend.patterns import refuse_large_grammar, refuse_stop_regexes
from llm42_sglang.frontend.seeds import SEED
from llm42_sglang.frontend.values import (
    INT64,
    encodes,
    is_finite,
    is_int,
    leaves,
    lists_in,
    range_of,
    refuse_other,
    refuse_range,
    require,
    texts,
)

MAX_TOP_LOGPROBS = 1000
# Logprobs of one HTTP request: 20 at each position of a context of 131,072 tokens.
MAX_LISTED_LOGPROBS = 20 * 131_072
MAX_BIAS = 1e30  # logit plus bias, divided by a temperature, is then finite in float32
MIN_REPETITION_PENALTY = 1e-3  # a smaller one is 0 in float32, or makes logits infinite
MAX_STOP_LENGTH = 1024  # characters of a stop string; so long a tail is decoded at every token
DEFAULT_NEW_TOKENS = 128  # SGLang's default of max_new_tokens
MAX_LISTED_IDS = 4096  # token ids in one option
MAX_RID_LENGTH = 256  # characters
SAMPLES_PER_BODY = 16  # times --llm42-max-n: the most samples of one HTTP request
RESERVED_RID = "HEALTH_CHECK"  # SGLang drops the answers of such requests

_COUNTS = ("max_new_tokens", "min_new_tokens", "n", "beam_width", "stream_interval")
_INTEGERS = (*_COUNTS, "top_k")
_PENALTIES = ("frequency_penalty", "presence_penalty", "repetition_penalty")
_NUMBERS = ("temperature", "top_p", "min_p", *_PENALTIES)
_SWITCHES = ("ignore_eos", "skip_special_tokens", "spaces_between_special_tokens", "no_stop_trim")
_GRAMMARS = ("regex", "json_schema", "ebnf", "structural_tag")
_LOGPROB_COUNTS = ("top_logprobs_num", "logprob_start_len")
# A value for all prompts, or a list with one for each. Of a single prompt SGLang takes the list for
# the value, and `return_sampling_mask: [false]`, which is true then, would end the scheduler.
PER_PROMPT = (
    *(*_LOGPROB_COUNTS, "return_logprob", "return_sampling_mask", "sampling_logprobs_mode"),
    *("return_hidden_states", "custom_logit_processor", "lora_path", "lora_id", "extra_key"),
    *("cache_salt", "kv_hints", "decode_tp_size", "bootstrap_host", "bootstrap_port"),
    *("bootstrap_room", "bootstrap_pair_key"),
)
_POSITIONS = ("multi_item_delimiter_indices", "token_indices_to_pool")
_OBJECTS = ("positional_embed_overrides", "embed_overrides")  # hold tensors; JSON has none


@dataclass(frozen=True)
class Bounds:
    """The limits that the model and the server set."""

    vocab_size: int
    max_n: int  # --llm42-max-n
    context: int  # tokens
    # Characters: a longer text cannot fit into the context. None: the server cuts long prompts.
    max_prompt_chars: int | None = None


def refuse_unbounded(obj: Any, bounds: Bounds, over_http: bool) -> None:
    """Raise Refused if an option is malformed or past its bound. The request is not changed.

    obj: the request before SGLang has looked at it; it may hold several prompts. over_http: whether
    it came over HTTP. What comes from the same program (offline) may be as large as memory allows.
    """
    prompts, most = _prompts_of(obj), SAMPLES_PER_BODY * bounds.max_n
    if over_http:
        require(prompts <= most, f"at most {most} prompts in one request, got {prompts}")
    _refuse_prompt(obj, bounds)
    _refuse_rid(getattr(obj, "rid", None), most if over_http else None)
    _refuse_numbers(obj, bounds)
    if over_http:
        for name in _OBJECTS:
            require(getattr(obj, name, None) is None, f"{name} cannot be sent over HTTP")
    raw = obj.sampling_params
    params_list = raw if isinstance(raw, list) else [raw]
    require(bool(params_list), "sampling_params must not be an empty list")
    for params in params_list:
        require(isinstance(params, Mapping | None), "sampling_params must be an object")
        refuse_sampling(params or {}, bounds)
    samples = max((params or {}).get("n") or 1 for params in params_list)
    if isinstance(raw, list):
        require(
            len(raw) == prompts,
            f"sampling_params: a list of {len(raw)} for {prompts} prompts; give one for each",
        )
    if over_http:
        answers = prompts * samples
        require(
            answers <= most,
            f"n times prompts: at most {most} in one request, got {answers}",
        )
    _refuse_logprobs(obj, params_list, prompts * samples, bounds)


def refuse_sampling(params: Mapping[str, Any], bounds: Bounds) -> None:
    """Check sampling parameters as the user sent them. Raises Refused."""
    for name in _INTEGERS:
        refuse_other(name, params.get(name), is_int, "an integer of 64 bits")
    refuse_other(SEED, params.get(SEED), _is_seed, f'an integer of 64 bits or "{FRESH}"')
    for name in _NUMBERS:
        refuse_other(name, params.get(name), is_finite, "a finite number")
    penalty = params.get("repetition_penalty")
    require(
        penalty is None or penalty >= MIN_REPETITION_PENALTY,
        f"repetition_penalty must be at least {MIN_REPETITION_PENALTY}, got {penalty}",
    )
    for name in _SWITCHES:
        refuse_other(name, params.get(name), lambda value: type(value) is bool, "true or false")
    for name in _COUNTS:
        count = params.get(name) or 0
        require(count >= 0, f"{name} must not be negative, got {count}")
    for name in ("n", "beam_width"):
        value = params.get(name)
        require(value is None or value >= 1, f"{name} must be at least 1, got {value}")
        require(
            (value or 1) <= bounds.max_n,
            f"{name} must be at most {bounds.max_n} (--llm42-max-n), got {value}",
        )
    for text in texts("stop", params.get("stop")):
        require(
            len(text) <= MAX_STOP_LENGTH,
            f"stop: at most {MAX_STOP_LENGTH} characters each, got {len(text)}",
        )
    refuse_stop_regexes(texts("stop_regex", params.get("stop_regex")))
    for name in _GRAMMARS:
        refuse_other(name, params.get(name), lambda value: isinstance(value, str), "a string")
        refuse_large_grammar(name, params.get(name) or "")
    _refuse_ids("stop_token_ids", params.get("stop_token_ids") or (), bounds.vocab_size)
    _refuse_bias(params.get("logit_bias"), bounds.vocab_size)


def refuse_unsendable(tokenized: Any, bounds: Bounds) -> None:
    """Check a tokenized request before it is sent to the scheduler. Raises Refused."""
    ids = tokenized.input_ids
    if ids is None or tokenized.input_embeds is not None:
        return
    in_session = getattr(tokenized, "session_params", None) is not None
    require(len(ids) > 0 or in_session, "text, input_ids: the prompt has no token; send one")
    # SGLang's own ids of images and of padding lie past the vocabulary.
    if tokenized.mm_inputs is None:
        refuse_range("input_ids", ids, bounds.vocab_size)
    for name in _POSITIONS:
        refuse_range(name, getattr(tokenized, name, None) or (), len(ids), "positions")
    params = getattr(tokenized, "sampling_params", None)
    refuse_range(CLAIM, claim_of(getattr(params, "custom_params", None)) or (), bounds.vocab_size)
    if getattr(tokenized, "return_logprob", False):
        start = tokenized.logprob_start_len
        require(-1 <= start <= len(ids), f"logprob_start_len must be -1 to {len(ids)}, got {start}")


def _refuse_logprobs(obj: Any, params_list: Sequence[Any], answers: int, bounds: Bounds) -> None:
    """Raise Refused if the answers of a request would hold too many logprobs in all.

    params_list: the sampling parameters of each prompt, or one for all. answers: the number of
    answers. A prompt of text counts as long as the context, for its length is not known yet.
    """
    if not getattr(obj, "return_logprob", False):
        return
    logprobs = max(  # at each position
        max(leaves(getattr(obj, "top_logprobs_num", None)), default=0),
        max(map(len, lists_in(getattr(obj, "token_ids_logprob", None))), default=0),
    )
    start = min(leaves(getattr(obj, "logprob_start_len", None)), default=-1)
    limits = [(params or {}).get("max_new_tokens", DEFAULT_NEW_TOKENS) for params in params_list]
    new = max(bounds.context if limit is None else limit for limit in limits)
    positions = bounds.context if start >= 0 else min(new, bounds.context)
    if start >= 0 and obj.text is None and obj.input_ids is not None:
        longest = max(map(len, lists_in(obj.input_ids)), default=0)
        positions = min(max(longest - start, 0) + new, bounds.context)
    require(
        answers * positions * logprobs <= MAX_LISTED_LOGPROBS,
        f"top_logprobs_num, token_ids_logprob: {answers} answers of {positions} positions with "
        f"{logprobs} logprobs each are more than {MAX_LISTED_LOGPROBS}; ask for fewer",
    )


def _refuse_prompt(obj: Any, bounds: Bounds) -> None:
    text, ids = obj.text, obj.input_ids
    for prompt in leaves(text):
        require(isinstance(prompt, str), f"text must be a string or strings, got {prompt!r:.40}")
        require(encodes(prompt), "text has half of a surrogate pair; send valid Unicode")
    most = bounds.max_prompt_chars
    if most is not None:
        longest = max((len(prompt) for prompt in leaves(text)), default=0)
        require(
            longest <= most,
            f"text: {longest} characters cannot fit into the context; at most {most} can",
        )
    for name, value in (("text", text), ("input_ids", ids), ("input_embeds", obj.input_embeds)):
        empty = isinstance(value, list) and (not value or any(prompt == [] for prompt in value))
        # In a session the history alone may be the prompt.
        if not getattr(obj, "session_params", None):
            require(not empty, f"{name} must not be empty")
    if ids is not None:
        nested = len(ids) > 0 and hasattr(ids[0], "__len__")
        for prompt in ids if nested else [ids]:
            require(
                hasattr(prompt, "__len__"),
                "input_ids: ids and lists of ids are mixed; send one or the other",
            )
            refuse_range("input_ids", prompt, bounds.vocab_size)


def _refuse_numbers(obj: Any, bounds: Bounds) -> None:
    for name in PER_PROMPT:
        value = getattr(obj, name, None)
        if isinstance(value, list):
            good = _is_batch(obj) and len(value) == _prompts_of(obj)
            require(good, f"{name}: a list must have one entry for each of several prompts")
    for name in _LOGPROB_COUNTS:
        for value in leaves(getattr(obj, name, None)):
            refuse_other(name, value, is_int, "an integer")
    for value in leaves(getattr(obj, "top_logprobs_num", None)):
        most = min(MAX_TOP_LOGPROBS, bounds.vocab_size)
        require(0 <= value <= most, f"top_logprobs_num must be 0 to {most}, got {value}")
    for ids in lists_in(getattr(obj, "token_ids_logprob", None)):
        _refuse_ids("token_ids_logprob", ids, bounds.vocab_size)
    for name in _POSITIONS:
        for positions in lists_in(getattr(obj, name, None)):
            require(
                len(positions) <= bounds.context,
                f"{name}: at most {bounds.context} positions, got {len(positions)}",
            )
    for name, value in vars(obj).items():
        if isinstance(value, int):
            require(value in INT64, f"{name} must be an integer of 64 bits")


def _refuse_rid(rid: Any, most: int | None) -> None:
    if isinstance(rid, list) and most is not None:
        require(len(rid) <= most, f"rid: at most {most} in one request, got {len(rid)}")
    for name in leaves(rid):
        # Aborts miss an id that begins with a control character; see engine.loop.aborts.
        good = isinstance(name, str) and 0 < len(name) <= MAX_RID_LENGTH and name.isprintable()
        require(good, f"rid must be a string of 1 to {MAX_RID_LENGTH} printable characters")


def refuse_reserved_rid(rid: Any) -> None:
    """Raise Refused for a request id whose answer SGLang would drop."""
    for name in leaves(rid):
        reserved = isinstance(name, str) and name.startswith(RESERVED_RID)
        require(not reserved, f"rid must not start with {RESERVED_RID}; choose another")


def _is_seed(value: Any) -> bool:
    return value == FRESH or is_int(value)


def _refuse_bias(bias: Any, vocab_size: int) -> None:
    refuse_other("logit_bias", bias, lambda value: isinstance(value, Mapping), "an object")
    require(len(bias or {}) <= vocab_size, f"logit_bias: at most {vocab_size} tokens")
    for token, value in (bias or {}).items():
        known = str(token).isascii() and str(token).isdigit() and len(str(token)) < 20
        require(known and int(token) < vocab_size, range_of("logit_bias", vocab_size))
        good = is_finite(value) and value <= MAX_BIAS
        require(good, f"logit_bias must be finite and at most {MAX_BIAS:g}, got {value!r:.40}")


def _refuse_ids(name: str, ids: Any, vocab_size: int) -> None:
    good = isinstance(ids, list | tuple | set | frozenset)
    require(good, f"{name} must be a list of token ids")
    require(len(ids) <= MAX_LISTED_IDS, f"{name}: at most {MAX_LISTED_IDS} ids, got {len(ids)}")
    # SGLang ignores null.
    refuse_range(name, [token for token in ids if token is not None], vocab_size)


def _prompts_of(obj: Any) -> int:
    """The number of prompts in a request."""
    prompt = _prompt(obj)
    return len(prompt) if _is_batch(obj) else 1


def _is_batch(obj: Any) -> bool:
    """Whether a request has a list of prompts, be it of one."""
    prompt = _prompt(obj)
    if isinstance(prompt, str) or prompt is None or not len(prompt):
        return False
    if obj.text is not None:
        return True
    first = prompt[0]
    if obj.input_ids is None:  # embeddings: [tokens, size] or [prompts, tokens, size]
        first = first[0] if len(first) else first
    return hasattr(first, "__len__")


def _prompt(obj: Any) -> Any:
    """The field that SGLang takes for the prompt: the first of the three that is set."""
    fields = (obj.text, obj.input_ids, obj.input_embeds)
    return next((value for value in fields if value is not None), None)
