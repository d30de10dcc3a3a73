"""What an endpoint answered, as far as it is compared, and where two answers part."""

import hashlib
import json
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, field_serializer, field_validator

from llm42_sglang.repro.suite import Strict

_SHORT_HEX = 32
_CONTEXT = 24  # characters of a text shown around a difference
UNITS = {"ids": "token", "tokens": "token", "text": "character"}  # finest first


class Stamp(BaseModel):
    """The part of a receipt that is the same in every run; passes and rollbacks are not."""

    model_config = ConfigDict(frozen=True)  # a server's receipt has more fields

    verified: bool
    fingerprint: str
    output_digest: str
    seed: int | None = None
    sampling: dict[str, int | float] | None = None


class Output(Strict):
    """One answer's bits. None: the endpoint did not tell."""

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


class Mismatch(NamedTuple):
    """The first difference of two outputs."""

    what: str  # token, character, finish reason, logprobs or the prompt's tokens
    at: int | None  # index of the token or character; None where there is none
    recorded: str
    got: str

    def told(self, before: str = "recorded") -> str:
        """One line; `before` says where the first output is from."""
        place = f"{self.what} {self.at}" if self.at is not None else self.what
        return f"{place}: {before} {self.recorded}, got {self.got}"


def mismatch(recorded: Output, got: Output) -> Mismatch | None:
    """The first difference in what both tell; None where all of that is equal."""
    for unit in dict.fromkeys((common_unit((recorded, got)), "text")):
        left, right = getattr(recorded, unit), getattr(got, unit)
        if (at := first_difference(left, right)) is not None:
            return Mismatch(UNITS[unit], at, *(_piece(one, unit, at) for one in (recorded, got)))
    if recorded.finish_reason != got.finish_reason:
        reasons = repr(recorded.finish_reason), repr(got.finish_reason)
        return Mismatch("finish reason", None, *reasons)
    if None not in (recorded.logprobs, got.logprobs) and recorded.logprobs != got.logprobs:
        return Mismatch("logprobs", None, f"{recorded.logprobs}", f"{got.logprobs}")
    # The receipts' digest covers the prompt's token ids too. Where logprobs were recorded, both
    # must have been asked for them, or the digests are of different things.
    same_kind = (recorded.logprobs is None) == (got.logprobs is None)
    if recorded.receipt is not None and got.receipt is not None and same_kind:
        before, after = recorded.receipt.output_digest, got.receipt.output_digest
        return Mismatch("the prompt's tokens", None, before, after) if before != after else None
    return None


def common_unit(outputs: Sequence[Output]) -> str:
    """The finest of UNITS that all outputs tell."""
    told_by_all = (n for n in UNITS if all(getattr(one, n) is not None for one in outputs))
    return next(told_by_all)


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


def _piece(output: Output, unit: str, at: int) -> str:
    """A token or some characters, in words."""
    pieces = getattr(output, unit)
    if at >= len(pieces):
        return "its end"
    if unit == "text":
        start = max(0, at - _CONTEXT // 3)
        return repr(output.text[start : at + _CONTEXT])
    text = repr(output.tokens[at]) if output.tokens and at < len(output.tokens) else ""
    return " ".join(filter(None, (str(pieces[at]) if unit == "ids" else "", text)))
