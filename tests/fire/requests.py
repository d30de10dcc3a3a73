"""The requests that traces choose from. A number makes the same ones on every machine."""

import random
from typing import Any

from tests.engine import client
from tests.engine.constrained import OPTIONS

GREEDY: dict[str, Any] = {}
SAMPLED = {"temperature": 0.9, "top_p": 0.95}
KINDS = [
    GREEDY,
    SAMPLED,
    *({name: value for name, value in how.items() if name != "max_new_tokens"}
      for how in OPTIONS.values()),
    {"stop": ["e", " the"]},
    {"stop_regex": ["[0-9]+"]},
    {"temperature": 0.7, "n": 2},
]  # fmt: skip
LONGEST = 300  # tokens of a prompt: several chunks


def requests(number: int, seed: int = 0) -> list[dict[str, Any]]:
    """Deterministic /generate bodies. Every kind comes before any comes twice."""
    dice = random.Random(f"requests {seed}")
    return [_request(dice, KINDS[i % len(KINDS)]) for i in range(number)]


def _request(dice: random.Random, kind: dict[str, Any]) -> dict[str, Any]:
    prompt = dice.choice(client.prompts())
    length = min(len(prompt), int(LONGEST ** dice.random()) + 1)  # short ones are frequent
    how = {"max_new_tokens": dice.randrange(1, 48), "ignore_eos": dice.random() < 0.5, **kind}
    if "min_new_tokens" in how:
        how["min_new_tokens"] = how["max_new_tokens"] // 2
    if how.get("temperature"):
        how["sampling_seed"] = dice.randrange(2**32)
    scored = {"return_logprob": True, "top_logprobs_num": dice.choice((0, 2))}
    return client.body(prompt[:length], **how) | (scored if dice.random() < 0.5 else {})


def ordinary(request: dict[str, Any]) -> dict[str, Any]:
    """The same request, without the promise."""
    custom = {"custom_params": {"deterministic": False}}
    return request | {"sampling_params": request["sampling_params"] | custom}
