"""The requests of a benchmark. The same arguments give the same requests on every machine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from llm42_sglang.cli.model import ensure_default_model
from llm42_sglang.cli.output import say
from llm42_sglang.errors import UserError

BEGINNING = 16  # tokens of a text that is to be copied, in the prompt for the third time
EDITED = 16  # of so many tokens of an edited text one is another


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """One request. It ignores ends of text, so its work does not depend on the answer."""

    prompt_ids: tuple[int, ...]
    new_tokens: int
    deterministic: bool = False
    temperature: float = 0.0

    def body(self, marked: bool) -> dict[str, Any]:
        """The body for /generate. With `marked` false it is that of an ordinary request."""
        params: dict[str, Any] = {
            "temperature": self.temperature,
            "max_new_tokens": self.new_tokens,
            "ignore_eos": True,
        }
        if marked and self.deterministic:
            params["custom_params"] = {"deterministic": True}
        return {"input_ids": list(self.prompt_ids), "sampling_params": params, "stream": True}


class Lengths(NamedTuple):
    """A uniform distribution of numbers of tokens, both ends included."""

    least: int
    most: int

    @classmethod
    def parse(cls, text: str) -> "Lengths":
        """Read `128` or `32-512`. Raises UserError."""
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


def edited(text: Sequence[int]) -> tuple[int, ...]:
    """A text with every EDITED-th token replaced by one from its other end."""
    swapped = zip(text, reversed(text), strict=True)
    return tuple(b if i % EDITED == EDITED - 1 else a for i, (a, b) in enumerate(swapped))


def spans(
    ids: Sequence[int], prompt: Lengths, new: Lengths, count: int, seed: int
) -> list[LoadRequest]:
    """Requests whose prompts are random spans of `ids`. Raises UserError if `ids` is too short."""
    if len(ids) <= prompt.most:
        raise UserError(f"prompts of {prompt.most} tokens: the text has {len(ids)}")
    dice = Random(seed)
    requests = []
    for _ in range(count):
        length = dice.randint(*prompt)
        start = dice.randrange(len(ids) - length)
        requests.append(LoadRequest(tuple(ids[start : start + length]), dice.randint(*new)))
    return requests


def mark(requests: Sequence[LoadRequest], share_percent: float) -> list[LoadRequest]:
    """Make this share of the requests deterministic, rounded to a whole number, evenly spread."""
    share = share_percent / 100
    return [
        replace(request, deterministic=int((i + 1) * share + 0.5) > int(i * share + 0.5))
        for i, request in enumerate(requests)
    ]


@dataclass(frozen=True)
class Source:
    """A text and the lengths of requests, from which requests are drawn."""

    prompt: Lengths
    new: Lengths
    model: Path
    seed: int

    @classmethod
    def of(cls, prompt: str, new: str, model: Path | None, seed: int) -> "Source":
        """The source for a command's options. If no model is named it is the embedded one."""
        lengths = (Lengths.parse(prompt), Lengths.parse(new))
        return cls(*lengths, model or ensure_default_model(say), seed)

    @property
    def most_tokens(self) -> int:
        """The most tokens of a request, prompt and output together."""
        return self.prompt.most + self.new.most

    def requests(self, count: int, round_number: int = 0) -> list[LoadRequest]:
        """Ordinary requests. Each round has its own prompts."""
        seed = 1000 * self.seed + round_number
        return spans(self._text, self.prompt, self.new, count, seed)

    def copies(self, count: int, round_number: int = 0, edits: bool = False) -> list[LoadRequest]:
        """The same, but each prompt is its text twice and the text's beginning, to go on with.

        edits: the second time, and in the beginning, every EDITED-th token is another one.
        """
        gap = self._tokenizer.encode("\n\n").ids
        return [
            replace(request, prompt_ids=(*text, *gap, *again, *gap, *again[:BEGINNING]))
            for request in self.requests(count, round_number)
            for text in [request.prompt_ids]
            for again in [edited(text) if edits else text]
        ]

    def describe(self) -> dict[str, Any]:
        """The facts for the line above the table."""
        return {
            "model": self.model.name,
            "text": "Python's language reference",
            "prompt_tokens": str(self.prompt),
            "new_tokens": str(self.new),
            "seed": self.seed,
        }

    @cached_property
    def _text(self) -> Sequence[int]:
        """Token ids of Python's language reference, a long English text that every Python has."""
        from pydoc_data.topics import topics

        text = " ".join(topics[name] for name in sorted(topics))
        return self._tokenizer.encode(text).ids

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        file = self.model / "tokenizer.json"
        if not file.is_file():
            raise UserError(f"{file} is missing; --model names a folder that has one")
        return Tokenizer.from_file(str(file))
