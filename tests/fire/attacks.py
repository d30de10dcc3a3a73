"""Attacks: requests with something wrong in them, as Hypothesis strategies.

Each begins with a request that is well, and has a name for what is done to it. `names` has the
fields that were changed. A refusal has to name one of them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from hypothesis import strategies as st

from tests.engine import hostile

JSON = {"content-type": "application/json"}
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
GENERATE, INVOCATIONS, VERIFY = "/generate", "/invocations", "/llm42/verify"
FACTS, MESSAGES = "/llm42/fingerprint", "/v1/messages"
SAID = {"messages": [{"role": "user", "content": "Hi"}]}
FEW = {"max_tokens": 4}
# Requests that are well. Those of the last four paths get no deterministic answer.
WELL: dict[str, dict[str, Any]] = {
    GENERATE: {
        "text": "The sea is",
        "sampling_params": {"max_new_tokens": 4, "deterministic": True},
    },
    COMPLETIONS: {"model": "default", "prompt": "The sea is", "deterministic": True} | FEW,
    CHAT: {"model": "default", "deterministic": True} | SAID | FEW,
    INVOCATIONS: {"model": "default", "deterministic": True} | SAID | FEW,
    RESPONSES: {"model": "default", "input": "Hi", "deterministic": True, "max_output_tokens": 4},
    MESSAGES: {"model": "default"} | SAID | FEW,
    "/api/chat": {"model": "default", "stream": False, "options": {"num_predict": 4}} | SAID,
    "/api/generate": {"model": "default", "prompt": "Hi", "options": {"num_predict": 4}},
    "/abort_request": {"rid": "nobody"},
}
READ = (GENERATE, COMPLETIONS, CHAT, INVOCATIONS, RESPONSES)  # where our fields are read
OURS = ("deterministic", "nonce", "claim", "sampling_seed", "seed", "custom_params")
# By kind of API: where a field stands. "" is the body.
FIELDS: dict[str, tuple[str, ...]] = {
    GENERATE: (
        *(f"sampling_params.{name}" for name in hostile.SAMPLING),
        *("text", "input_ids", "rid", "stream", "return_logprob", "top_logprobs_num"),
        *("token_ids_logprob", "logprob_start_len", "extra_key", "priority", "input_embeds"),
        *("return_text_in_logprobs", "session_params", "lora_path", "sampling_params"),
    ),
    "openai": (
        *("model", "stream", "stream_options", "n", "temperature", "top_p", "top_k", "min_p"),
        *("stop", "stop_token_ids", "stop_regex", "logit_bias", "logprobs", "max_tokens"),
        *("frequency_penalty", "presence_penalty", "repetition_penalty", "min_tokens", "regex"),
        *("ebnf", "response_format", "ignore_eos", "skip_special_tokens", "rid", "extra_key"),
        *("echo", "suffix", "prompt", "messages", "tools", "tool_choice", "top_logprobs"),
        *("input", "instructions", "max_output_tokens", "text", "reasoning", "metadata"),
        *("user", "priority", "return_token_ids", "chat_template_kwargs", "parallel_tool_calls"),
    ),
}
# Our fields, wherever they may stand.
OUR_PLACES = {
    GENERATE: (
        *(f"sampling_params.{name}" for name in ("deterministic", "nonce", "sampling_seed")),
        *(f"sampling_params.custom_params.{name}" for name in OURS[:4]),
        "sampling_params.custom_params",
    ),
    "openai": (*OURS, *(f"custom_params.{name}" for name in OURS[:4])),
}
HALF = "\ud800"  # half of a surrogate pair; json.dumps writes it as an escape


@dataclass(frozen=True)
class Attack:
    """One request, in bytes."""

    name: str  # what is wrong
    path: str
    content: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    method: str = "POST"
    names: tuple[str, ...] = ()  # a refusal says one of these
    ours: bool = False  # the first of them is a field of ours
    cut: int | None = None  # only so many bytes are sent before the client hangs up


def edge_numbers() -> st.SearchStrategy[Any]:
    """Numbers at the ends of types, and past them."""
    powers = st.sampled_from((15, 16, 31, 32, 53, 63, 64, 70, 128, 1024))
    near = st.builds(lambda p, d, sign: sign * (2**p + d), powers, st.integers(-1, 1), SIGNS)
    special = st.sampled_from((float("nan"), float("inf"), -float("inf"), -0.0, 5e-324, 1e308))
    return st.one_of(st.integers(-5, 70), near, special, st.floats())


SIGNS = st.sampled_from((1, -1))
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(("", HALF, "\0", "\x1b[31m", "a" * 200, "a" * 50_000, "\u202e", "fresh", "42")),
)
SCALARS = st.one_of(st.none(), st.booleans(), edge_numbers(), TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
CLAIMS = st.one_of(
    VALUES,
    st.lists(st.one_of(st.integers(-2, 50_000), edge_numbers()), max_size=12),
    st.lists(st.integers(0, 49151), min_size=1, max_size=60),
    st.sampled_from(([5] * 100_000, [[5]], [True], ["5"], [], {}, [None], [5.0])),
)
PATTERN_FIELDS = ("regex", "stop_regex", "ebnf", "json_schema", "structural_tag")
SCHEMAS = st.recursive(
    st.sampled_from(({"type": "integer"}, {"type": "string", "pattern": "(a+)+b"}, {}, True)),
    lambda inner: st.one_of(
        st.builds(lambda one: {"type": "array", "items": one, "minItems": 2**31}, inner),
        st.builds(lambda one: {"anyOf": [one] * 30}, inner),
        st.builds(lambda one: {"properties": {f"k{i}": one for i in range(30)}}, inner),
        st.just({"$ref": "#"}),
    ),
    max_leaves=4,
)
UNITS = st.sampled_from(("(a?)", "(", "a|", "[^a]{9}"))
PATTERNS = st.one_of(
    st.from_regex(r"[()ab*+?{}|\[\]\\^$.0-9,]{1,30}", fullmatch=True),
    st.builds(lambda unit, count: unit * count, UNITS, st.integers(1, 400)),
    st.builds(json.dumps, SCHEMAS),
    st.sampled_from([one for name in PATTERN_FIELDS for one in hostile.SAMPLING[name]]),
)
PATTERN_PLACES = {
    GENERATE: tuple(f"sampling_params.{name}" for name in PATTERN_FIELDS),
    "openai": ("regex", "stop_regex", "ebnf", "response_format"),
}


def put(body: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """A copy of a body with the value at a dotted place."""
    name, _, rest = place.partition(".")
    if not rest:
        return body | {name: value}
    inner = body.get(name)
    return body | {name: put(inner if isinstance(inner, dict) else {}, rest, value)}


def encoded(body: Any) -> bytes:
    """As `json.dumps` writes it: NaN, Infinity and halves of surrogate pairs too."""
    return json.dumps(body).encode()


def places(table: Mapping[str, Sequence[str]], path: str) -> Sequence[str]:
    """The places of a table for a path."""
    return table[GENERATE if path == GENERATE else "openai"]


@st.composite
def changed(draw: Callable, name: str, table: Mapping, values: st.SearchStrategy, most: int = 1):
    """Values in some of the places that a table has for a path."""
    path = draw(st.sampled_from([path for path in WELL if table is FIELDS or path in READ]))
    which = draw(st.lists(st.sampled_from(places(table, path)), min_size=1, max_size=most))
    chosen = {place: draw(CLAIMS if place.endswith("claim") else values) for place in which}
    body = reduce(lambda body, place: put(body, place, chosen[place]), chosen, WELL[path])
    if draw(st.booleans()) and path in READ:
        body = put(body, "stream", True)
    method = draw(st.sampled_from(("POST", "PUT"))) if path == GENERATE else "POST"
    names = tuple(dict.fromkeys(part for place in chosen for part in reversed(place.split("."))))
    ours = table is OUR_PLACES and len(chosen) == 1
    return Attack(name, path, encoded(body), names=names, ours=ours, method=method)


@st.composite
def misspelt(draw: Callable):
    """`deterministic` with a letter less, more, or another, where it should stand or anywhere."""
    word, at = "deterministic", draw(st.integers(8, 12))
    letter = draw(st.sampled_from(("", "x", "_", "I")))
    name = word[:at] + letter + word[at + draw(st.integers(0, 1)) :]
    path = draw(st.sampled_from(list(WELL)))
    place = draw(st.sampled_from(("", "sampling_params.", "metadata.", "extra_body.")))
    body = put(WELL[path], place + name, draw(SCALARS))
    return Attack("a misspelt or unknown field", path, encoded(body), names=(name,))


CONTRADICTIONS: tuple[dict[str, Any], ...] = (
    {"deterministic": False, "custom_params": {"deterministic": True}},
    {"deterministic": False, "nonce": "n"},
    {"deterministic": False, "custom_params": {"claim": [5]}},
    {"deterministic": False, "sampling_seed": "fresh"},
    {"sampling_seed": 7, "custom_params": {"sampling_seed": "fresh"}},
    {"nonce": "a", "custom_params": {"nonce": "b"}},
    {"n": 3, "custom_params": {"claim": [5]}},
    {"custom_params": {"deterministic": True, "claim": [5], "nonce": 5}},
    {"regex": "a+", "ebnf": 'root ::= "b"'},
    {"min_new_tokens": 9, "min_tokens": 9, "max_new_tokens": 2, "max_tokens": 2},
    {"beam_width": 2, "n": 1},
)


@st.composite
def contradicting(draw: Callable):
    """Fields that contradict each other."""
    path = draw(st.sampled_from(READ))
    prefix = "sampling_params." if path == GENERATE else ""
    fields = draw(st.sampled_from(CONTRADICTIONS))
    body = reduce(lambda body, name: put(body, prefix + name, fields[name]), fields, WELL[path])
    return Attack("fields that contradict", path, encoded(body), names=tuple(fields))


@st.composite
def twice(draw: Callable):
    """A name that stands twice in one object."""
    path = draw(st.sampled_from(READ))
    values = [json.dumps(draw(st.one_of(st.booleans(), SCALARS))) for _ in range(2)]
    pair = ", ".join(f'"deterministic": {value}' for value in values)
    text = json.dumps(WELL[path]).replace('"deterministic": true', pair)
    return Attack("a name twice", path, text.encode(), names=("deterministic",))


@st.composite
def damaged(draw: Callable, saved: Sequence[bytes]):
    """Bytes that are cut out, changed or put in."""
    bodies = [(path, encoded(body)) for path, body in WELL.items()]
    path, text = draw(st.sampled_from([*bodies, *((VERIFY, one) for one in saved)]))
    at = draw(st.integers(0, len(text)))
    size = draw(st.integers(0, 4) | st.just(len(text)))
    raw = draw(st.binary(max_size=4) | st.sampled_from((b"\xff", b"\xed\xa0\x80", b"[" * 2000)))
    return Attack("damaged bytes", path, text[:at] + raw + text[at + size :])


@st.composite
def in_another_coat(draw: Callable):
    """Another content type, encoding, method, query or header than the body has."""
    path = draw(st.sampled_from([*WELL, VERIFY, FACTS]))
    body = json.dumps(WELL.get(path, {}))
    coding = draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "utf-32")))
    kinds = ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "\xe9")
    headers = {"content-type": draw(st.sampled_from((*kinds, "application/json; charset=x")))}
    name = draw(st.sampled_from(("x-deterministic", "authorization", "expect", "content-encoding")))
    headers[name] = draw(st.sampled_from(("true", "Bearer \xe9", "gzip", "100-continue", "")))
    query = draw(st.sampled_from(("", "?deterministic=1", "?x=%ff%00", "?" + "a=1&" * 500)))
    method = draw(st.sampled_from(("POST", "POST", "POST", "PUT", "GET", "DELETE", "PATCH")))
    said = "another type, coding, method, query or header"
    return Attack(said, path + query, body.encode(coding), headers, method)


@st.composite
def large(draw: Callable):
    """Bodies that are deep, long or have many parts."""
    path = draw(st.sampled_from([*READ, VERIFY]))
    kind = draw(st.sampled_from(("[", '{"a":', '"', "null,", "x")))
    count = draw(st.sampled_from((500, 990, 5000, 30_000, 400_000, 6_000_000)))
    text = kind * count
    if draw(st.booleans()):
        text = f'{{"text": "Hi", "deterministic": {text}'
    return Attack("a deep or huge body", path, text.encode())


@st.composite
def saved_with_change(draw: Callable, saved: Sequence[bytes]):
    """A saved answer for /llm42/verify, with another value somewhere."""
    whole = {"": json.loads(draw(st.sampled_from(saved)))}
    holder, key = whole, ""
    while isinstance(holder[key], dict | list) and holder[key] and draw(st.integers(0, 5)):
        holder = holder[key]
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = draw(st.sampled_from(keys))
    if draw(st.integers(0, 3)) or not isinstance(holder, dict):
        holder[key] = draw(CLAIMS if key == "output_ids" else VALUES)
    else:
        del holder[key]
    return Attack("a saved answer with another value", VERIFY, encoded(whole.get("")))


@st.composite
def cut_off(draw: Callable):
    """Clients that hang up in the middle of their request."""
    path = draw(st.sampled_from([*READ, VERIFY]))
    text = encoded(WELL.get(path, {"request": {}}))
    return Attack("a client that hangs up", path, text, cut=draw(st.integers(0, len(text))))


def attacks(saved: Sequence[bytes]) -> st.SearchStrategy[Attack]:
    """All of them. saved: exchanges in JSON that /llm42/verify finds authentic."""
    return st.one_of(
        changed("a field of ours with another value", OUR_PLACES, VALUES),
        changed("a field of ours with another value", OUR_PLACES, SCALARS),
        changed("fields of ours with other values", OUR_PLACES, VALUES, 4),
        changed("fields of SGLang's with other values", FIELDS, VALUES, 3),
        changed("patterns and schemas", PATTERN_PLACES, PATTERNS, 2),
        misspelt(),
        contradicting(),
        twice(),
        damaged(saved),
        in_another_coat(),
        large(),
        saved_with_change(saved),
        cut_off(),
    )
