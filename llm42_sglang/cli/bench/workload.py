"""Who asks for what. The same arguments give the same requests, on every machine."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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


# Six, as LLM-42 has: from chat-like to long documents. A plausible choice, not the paper's list.
MIXES = {
    "mixed": Mix(Lengths(32, 512), Lengths(128, 128)),
    "512x256": Mix(Lengths(512, 512), Lengths(256, 256)),
    "1024x256": Mix(Lengths(1024, 1024), Lengths(256, 256)),
    "1024x512": Mix(Lengths(1024, 1024), Lengths(512, 512)),
    "2048x256": Mix(Lengths(2048, 2048), Lengths(256, 256)),
    "4096x512": Mix(Lengths(4096, 4096), Lengths(512, 512)),
}


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


def sharegpt(path: Path, tokenizer: Any, mix: Mix, count: int, seed: int) -> list[Request]:
    """First turns of a ShareGPT file: its questions, as many new tokens as its answers have.

    Conversations longer than the mix allows are left out, as are turns of fewer than 4 tokens
    (SGLang's bench_serving has the same rule). Raises UserError.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        turns = [entry.get("conversations") or entry.get("conversation") or [] for entry in entries]
        pairs = [(two[0]["value"], two[1]["value"]) for two in turns if len(two) >= 2]
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no ShareGPT file: {error!r}") from None
    Random(seed).shuffle(pairs)
    requests = []
    for question, answer in pairs:
        prompt_ids, new_tokens = tokenizer.encode(question).ids, len(tokenizer.encode(answer).ids)
        if 4 <= len(prompt_ids) <= mix.prompt.most and 4 <= new_tokens <= mix.new.most:
            requests.append(Request(tuple(prompt_ids), new_tokens))
        if len(requests) == count:
            return requests
    raise UserError(f"{path} has {len(requests)} conversations of fitting length, not {count}")


def mark(requests: Sequence[Request], share_percent: float) -> list[Request]:
    """That share of the requests deterministic: the nearest whole number, evenly spread."""
    share = share_percent / 100
    return [
        replace(request, deterministic=int((i + 1) * share + 0.5) > int(i * share + 0.5))
        for i, request in enumerate(requests)
    ]
