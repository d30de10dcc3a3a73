"""Who asks for what. The same arguments give the same requests, on every machine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, NamedTuple

from llm42_sglang.cli.errors import UserError


@dataclass(frozen=True, slots=True)
class Request:
    """One greedy request that runs to its last token: the work does not depend on the answer."""

    prompt_ids: tuple[int, ...]
    new_tokens: int
    deterministic: bool = False

    def body(self, marked: bool) -> dict[str, Any]:
        """For /generate. Not `marked`: as an ordinary request, whatever it is."""
        params: dict[str, Any] = {
            "temperature": 0,
            "max_new_tokens": self.new_tokens,
            "ignore_eos": True,
        }
        if marked and self.deterministic:
            params["custom_params"] = {"deterministic": True}
        return {"input_ids": list(self.prompt_ids), "sampling_params": params, "stream": True}


class Lengths(NamedTuple):
    """Tokens, both ends included; uniform between them."""

    least: int
    most: int

    @classmethod
    def parse(cls, text: str) -> "Lengths":
        """`128` or `32-512`. Raises UserError."""
        first, dash, last = text.partition("-")
        try:
            lengths = cls(int(first), int(last if dash else first))
        except ValueError:
            raise UserError(f"a number of tokens is N or N-M, not {text!r}") from None
        if not 1 <= lengths.least <= lengths.most:
            raise UserError(f"tokens from {lengths.least} to {lengths.most}: nothing lies there")
        return lengths

    def __str__(self) -> str:
        return f"{self.least}-{self.most}" if self.least != self.most else str(self.least)


class Mix(NamedTuple):
    """Lengths of prompts and of outputs."""

    prompt: Lengths
    new: Lengths

    @property
    def most_tokens(self) -> int:
        """Of one request, prompt and output."""
        return self.prompt.most + self.new.most


def english(tokenizer: Any) -> list[int]:
    """Token ids of the long English text that every Python has: its language reference."""
    from pydoc_data.topics import topics

    return tokenizer.encode(" ".join(topics[name] for name in sorted(topics))).ids


def spans(ids: Sequence[int], mix: Mix, count: int, seed: int) -> list[Request]:
    """Requests whose prompts are spans of `ids`, from places of their own."""
    if len(ids) <= mix.prompt.most:
        raise UserError(f"prompts of {mix.prompt.most} tokens: the text has {len(ids)}")
    dice = Random(seed)
    requests = []
    for _ in range(count):
        length = dice.randint(*mix.prompt)
        start = dice.randrange(len(ids) - length)
        requests.append(Request(tuple(ids[start : start + length]), dice.randint(*mix.new)))
    return requests


def mark(requests: Sequence[Request], share_percent: float) -> list[Request]:
    """That share of the requests deterministic: the nearest whole number, evenly spread."""
    share = share_percent / 100
    return [
        replace(request, deterministic=int((i + 1) * share + 0.5) > int(i * share + 0.5))
        for i, request in enumerate(requests)
    ]
