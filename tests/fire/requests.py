"""The requests that traces choose from. A number makes the same ones on every machine."""

import random
from dataclasses import dataclass
from typing import Any

from tests.engine import client
from tests.engine.constrained import OPTIONS

LONGEST = 300  # tokens of most prompts: several chunks
TOO_LONG = "too long for a small pool"
KINDS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"temperature": 0.9, "top_p": 0.95},
    **{
        kind: {name: value for name, value in how.items() if name != "max_new_tokens"}
        for kind, how in OPTIONS.items()
    },
    "stop": {"stop": ["e", " the"]},
    "stop_regex": {"stop_regex": ["[0-9]+"]},
    "n": {"temperature": 0.7, "n": 2},
    TOO_LONG: {},
}


@dataclass(frozen=True)
class Request:
    """A deterministic /generate body, and the name of its kind."""

    kind: str
    body: dict[str, Any]

    @property
    def samples(self) -> int:
        """How many answers it gets."""
        return self.body["sampling_params"].get("n", 1)


def requests(number: int, seed: int = 0) -> tuple[Request, ...]:
    """So many requests. Every kind comes before any comes twice."""
    dice = random.Random(f"requests {seed}")
    names = [*KINDS]
    return tuple(_request(dice, names[i % len(names)]) for i in range(number))


def _request(dice: random.Random, kind: str) -> Request:
    how = {"max_new_tokens": dice.randrange(1, 40), "ignore_eos": dice.random() < 0.5}
    how |= KINDS[kind]
    if "min_new_tokens" in how:
        how["min_new_tokens"] = how["max_new_tokens"] // 2
    if how.get("temperature"):
        how["sampling_seed"] = dice.randrange(2**32)
    scored = {"return_logprob": True, "top_logprobs_num": dice.choice((0, 2))}
    body = client.body(_prompt(dice, kind), **how)
    return Request(kind, body | (scored if dice.random() < 0.5 else {}))


def _prompt(dice: random.Random, kind: str) -> tuple[int, ...]:
    if kind == TOO_LONG:
        return sum(client.prompts()[-3:], start=())
    prompt = dice.choice(client.prompts())
    return prompt[: int(LONGEST ** dice.random()) + 1]  # short ones are frequent


def ordinary(body: dict[str, Any]) -> dict[str, Any]:
    """The same request, without the promise."""
    custom = {"custom_params": {"deterministic": False}}
    return body | {"sampling_params": body["sampling_params"] | custom}


def claimed(right: list[int], how: str) -> list[int]:
    """What a client claims who knows the right output. how: "right" or "wrong"."""
    return right if how == "right" else [*right[:-1], (right[-1] + 7) % 1000]
