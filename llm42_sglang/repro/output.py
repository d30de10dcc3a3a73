"""What an endpoint answered, as far as it is compared, and where two answers part."""

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, field_serializer, field_validator

_SHORT_HEX = 32
_CONTEXT = 24  # characters of a text shown around a difference


class Stamp(BaseModel):
    """The part of a receipt that is the same in every run; passes and rollbacks are not."""

    model_config = ConfigDict(frozen=True)  # a server's receipt has more fields

    verified: bool
    fingerprint: str
    output_digest: str
    seed: int | None = None


class Output(BaseModel):
    """One answer's bits. None: the endpoint did not tell."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    finish_reason: str | None = None
    ids: list[int] | None = None
    tokens: list[str] | None = None  # texts of the tokens
    logprobs: str | None = None  # digest of their bits, and of the alternatives if asked for
    receipt: Stamp | None = None

    @field_validator("text", mode="before")
    @classmethod
    def _joined(cls, text: Any) -> Any:
        lines = isinstance(text, list) and all(isinstance(line, str) for line in text)
        return "".join(text) if lines else text

    @field_serializer("text")
    def _lines(self, text: str) -> list[str]:
        """Line by line, so that a golden file's differences are those of the text."""
        return text.splitlines(keepends=True)

    @property
    def verified(self) -> bool:
        """Whether a server vouches for it."""
        return self.receipt is not None and self.receipt.verified

    @property
    def fingerprint(self) -> str | None:
        return self.receipt.fingerprint if self.receipt else None


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first difference of two outputs."""

    what: str  # tokens, text, finish reason, logprobs or prompt
    at: int | None  # index of the token or character; None where there is none
    recorded: str
    got: str

    def told(self, before: str = "recorded") -> str:
        """One line; `before` says where the first output is from."""
        place = f"{self.what} {self.at}" if self.at is not None else self.what
        return f"{place}: {before} {self.recorded}, got {self.got}"


def mismatch(recorded: Output, got: Output) -> Mismatch | None:
    """The first difference in what both tell; None where all of that is equal."""
    if recorded.ids is not None and got.ids is not None:
        if (at := first_difference(recorded.ids, got.ids)) is not None:
            return Mismatch("token", at, _token(recorded, at), _token(got, at))
    elif (
        recorded.tokens is not None
        and got.tokens is not None
        and (at := first_difference(recorded.tokens, got.tokens)) is not None
    ):
        return Mismatch("token", at, _item(recorded.tokens, at), _item(got.tokens, at))
    if (at := first_difference(recorded.text, got.text)) is not None:
        return Mismatch("character", at, _around(recorded.text, at), _around(got.text, at))
    if recorded.finish_reason != got.finish_reason:
        reasons = repr(recorded.finish_reason), repr(got.finish_reason)
        return Mismatch("finish reason", None, *reasons)
    if None not in (recorded.logprobs, got.logprobs) and recorded.logprobs != got.logprobs:
        return Mismatch("logprobs", None, f"{recorded.logprobs}", f"{got.logprobs}")
    return _prompt_mismatch(recorded, got)


def logprob_digest(values: Sequence[float], alternatives: Sequence[Any] = ()) -> str:
    """Hash of the bits of logprobs, and of the alternatives to each token, as JSON types."""
    packed = struct.pack(f"<{len(values)}d", *values)
    if alternatives:
        packed += json.dumps(alternatives).encode()  # a float's text has all of its bits
    return hashlib.sha256(packed).hexdigest()[:_SHORT_HEX]


def first_difference(left: Sequence[Any], right: Sequence[Any]) -> int | None:
    """The first index at which two token sequences differ, an end being a difference too."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return None if len(left) == len(right) else min(len(left), len(right))


def comparable(text: str) -> str:
    """Without halves of surrogate pairs, which no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _prompt_mismatch(recorded: Output, got: Output) -> Mismatch | None:
    """The receipts' digest covers the prompt's token ids too. Where logprobs were recorded, both
    must have been asked for them, or the digests are of different things."""
    if recorded.receipt is None or got.receipt is None:
        return None
    if (recorded.logprobs is None) != (got.logprobs is None):
        return None
    before, after = recorded.receipt.output_digest, got.receipt.output_digest
    return Mismatch("the prompt's tokens", None, before, after) if before != after else None


def _token(output: Output, at: int) -> str:
    assert output.ids is not None
    if at >= len(output.ids):
        return "its end"
    text = f" {output.tokens[at]!r}" if output.tokens and at < len(output.tokens) else ""
    return f"{output.ids[at]}{text}"


def _item(items: Sequence[str], at: int) -> str:
    return repr(items[at]) if at < len(items) else "its end"


def _around(text: str, at: int) -> str:
    start = max(0, at - _CONTEXT // 3)
    return repr(text[start : at + _CONTEXT]) if at < len(text) else "its end"
