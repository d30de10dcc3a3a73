"""`sampling_seed: "fresh"`: the request asks the server to draw its seed.

SGLang's request classes take numbers only. So the word is moved into `custom_params`, which SGLang
passes on, and the seed is drawn when it is known which prompt it is for. A client whose seed must
be a number may write the word there itself.
"""

import json
from collections.abc import Mapping
from typing import Any

from llm42_sglang.core.seeds import FRESH
from llm42_sglang.frontend.bodies import parsed_object
from llm42_sglang.frontend.options import FIELD
from llm42_sglang.frontend.places import READ
from llm42_sglang.frontend.values import is_int, require

SEED = "sampling_seed"  # of sampling parameters, and in custom_params
_OPENAI = ("seed", SEED)  # in the body of an OpenAI endpoint
_QUOTED = json.dumps(FRESH).encode()


def with_word_moved(params: Mapping[str, Any], names: tuple[str, ...] = (SEED,)) -> dict[str, Any]:
    """Return a copy with the word, if it stands under one of `names`, in `custom_params`.

    A malformed `custom_params` is left for others to refuse.
    """
    moved, custom = dict(params), params.get("custom_params")
    custom = {} if custom is None else custom
    for name in names:
        if params.get(name) == FRESH and isinstance(custom, Mapping):
            moved[name] = None  # said: no preferred seed of the server comes in its place
            moved["custom_params"] = custom = {**custom, SEED: FRESH}
    return moved


def messages_with_word_moved(path: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the ASGI messages of a body that SGLang's OpenAI classes can read.

    Of most bodies these are `messages` themselves. On /generate our hooks move the word.
    """
    openai = path in READ and path != "/generate"
    if not openai or _QUOTED not in b"".join(message.get("body", b"") for message in messages):
        return messages
    payload = parsed_object(messages) or {}
    moved = with_word_moved(payload, _OPENAI)
    if moved == payload:
        return messages
    return [{"type": "http.request", "body": json.dumps(moved).encode(), "more_body": False}]


def asks_for_fresh_seed(custom_params: Mapping[str, Any] | None) -> bool:
    """Whether the word stands in `custom_params`."""
    return (custom_params or {}).get(SEED) == FRESH


def refuse_fresh_seed(custom_params: Mapping[str, Any] | None) -> None:
    """Raise Refused if an ordinary request has the word: no receipt would name the seed."""
    require(
        not asks_for_fresh_seed(custom_params),
        f'{SEED}: "{FRESH}" is for deterministic requests; leave it out, or set {FIELD} to true',
    )


def refuse_no_seed(value: Any) -> None:
    """Raise Refused for a seed in sampling parameters that is neither a number nor the word."""
    good = value is None or value == FRESH or is_int(value)
    require(good, f'{SEED} must be an integer of 64 bits or "{FRESH}", got {value!r:.40}')


def refuse_unclear_seed(custom_params: Mapping[str, Any] | None, seed: int | None) -> None:
    """Raise Refused if it is not clear with which seed a deterministic request draws.

    seed: the number that it names.
    """
    word = (custom_params or {}).get(SEED)
    require(
        word in (None, FRESH),
        f'custom_params.{SEED} must be "{FRESH}", got {word!r:.40}; a number is a {SEED} itself',
    )
    require(
        word is None or seed is None,
        f'{SEED} is both {seed} and "{FRESH}"; send only one of them',
    )
