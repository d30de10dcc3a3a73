"""The part of an answer that is compared, and the first difference of two answers."""

import hashlib
import json
import struct
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator

from llm42_sglang.repro.documents import Strict

_SHORT_HEX = 32
_CONTEXT = 24  # characters of a text shown around a difference
_MAX_VALUE = 60  # characters of an argument that are shown
UNITS = {"ids": "token", "tokens": "token", "text": "character"}  # finest first


class SegmentStamp(BaseModel):
    """Consecutive output tokens that were drawn under the same weights."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    tokens: int


class Stamp(BaseModel):
    """The part of a receipt that is the same in every run. Passes and rollbacks are not."""

    model_config = ConfigDict(frozen=True)  # other fields of the receipt are ignored

    version: Literal[1, 2] = 1  # the field is new with 2
    verified: bool
    fingerprint: str
    request_digest: str | None = None  # None in version 1
    output_digest: str  # in version 1 over the prompt too, and not over the finish reason
    seed: int | None = None
    sampling: dict[str, Any] | None = None
    nonce: str | None = None
    segments: tuple[SegmentStamp, ...] | None = None  # if there are several

    @field_validator("segments")
    @classmethod
    def _several(cls, segments: tuple[SegmentStamp, ...] | None) -> Any:
        return segments if segments and len(segments) > 1 else None


class ToolCall(Strict):
    """A tool call of an answer. The id that the server gave it is another one each time."""

    name: str
    arguments: str  # JSON text; a stream may have other spaces in it than a whole answer

    @field_validator("name")
    @classmethod
    def _comparable(cls, name: str) -> str:
        return comparable(name)

    @field_validator("arguments")
    @classmethod
    def _in_one_spelling(cls, text: str) -> str:
        values = _object_in(text)
        return comparable(text if values is None else _json(values))


class Output(Strict):
    """What is compared of one answer. None stands for what the endpoint did not send.

    With n > 1 it is the first choice, and has the others.
    """

    text: str
    tool_calls: list[ToolCall] | None = None
    finish_reason: str | None = None
    ids: list[int] | None = None
    tokens: list[str] | None = None  # texts of the tokens
    logprobs: str | None = None  # digest of their bits, and of the alternatives if asked for
    receipt: Stamp | None = None
    others: list["Output"] | None = Field(None, min_length=1)  # the other choices, in their order

    @field_validator("text", mode="before")
    @classmethod
    def _joined(cls, text: Any) -> Any:
        lines = isinstance(text, list) and all(isinstance(line, str) for line in text)
        return "".join(text) if lines else text

    @field_serializer("text")
    def _lines(self, text: str) -> list[str]:
        """The lines of the text, so that a diff of golden files shows the lines that changed."""
        return text.splitlines(keepends=True)

    @property
    def choices(self) -> list["Output"]:
        """All choices, in their order."""
        return [self, *(self.others or ())]

    @property
    def stamped(self) -> bool:
        """Whether every choice has a receipt."""
        return all(choice.receipt for choice in self.choices)

    @property
    def verified(self) -> bool:
        """Whether the receipts say that the server verified every choice."""
        return all(choice.receipt and choice.receipt.verified for choice in self.choices)

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint that the first receipt names, None without a receipt."""
        return self.receipt.fingerprint if self.receipt else None


class FirstDifference(NamedTuple):
    """The first difference of two outputs."""

    what: str  # token, character, a tool call or its argument, finish reason, logprobs, ...
    at: int | None  # index of the token or character, from 0; None for the others
    recorded: str
    got: str
    choice: int | None = None  # from 0; None if both outputs have one

    def describe(self, source: str = "recorded") -> str:
        """One line that says what differs. `source` says where the first output is from."""
        place = f"{self.what} {self.at}" if self.at is not None else self.what
        if self.choice is not None:
            place = f"choice {self.choice}, {place}"
        return f"{place}: {source} {self.recorded}, got {self.got}"


def mismatch(recorded: Output, got: Output) -> FirstDifference | None:
    """The first difference in what both outputs have, None if all of that is equal."""
    before, now = recorded.choices, got.choices
    for number, (left, right) in enumerate(zip(before, now, strict=False)):
        if first := _mismatch_of_choices(left, right):
            several = len(before) > 1 or len(now) > 1
            return first._replace(choice=number) if several else first
    if len(before) != len(now):
        return FirstDifference("number of choices", None, f"{len(before)}", f"{len(now)}")
    return None


def _mismatch_of_choices(recorded: Output, got: Output) -> FirstDifference | None:
    """The first difference of two choices. Tool calls come first: a program reads these."""
    if call := _mismatch_of_calls(recorded.tool_calls or (), got.tool_calls or ()):
        return call
    scored = None not in (recorded.tokens, got.tokens)
    units = (common_unit((recorded, got)), *(["tokens"] if scored else []), "text")
    for unit in dict.fromkeys(units):
        left, right = getattr(recorded, unit), getattr(got, unit)
        if (at := first_difference(left, right)) is not None:
            pieces = _piece(recorded, unit, at), _piece(got, unit, at)
            return FirstDifference(UNITS[unit], at, *pieces)
    if recorded.finish_reason != got.finish_reason:
        reasons = repr(recorded.finish_reason), repr(got.finish_reason)
        return FirstDifference("finish reason", None, *reasons)
    if None not in (recorded.logprobs, got.logprobs) and recorded.logprobs != got.logprobs:
        return FirstDifference("logprobs", None, f"{recorded.logprobs}", f"{got.logprobs}")
    return _mismatch_of_digests(recorded, got)


def _mismatch_of_calls(
    recorded: Sequence[ToolCall], got: Sequence[ToolCall]
) -> FirstDifference | None:
    """The first call, name or argument that differs."""
    for number, (before, now) in enumerate(zip_longest(recorded, got)):
        call = f"tool call {number}"
        names = ["none" if side is None else repr(side.name) for side in (before, now)]
        if names[0] != names[1]:
            return FirstDifference(call, None, *map(_cut, names))
        if before.arguments != now.arguments:
            where, *values = _differing_argument(before.arguments, now.arguments)
            return FirstDifference(f"{call} ({before.name}), {where}", None, *map(_cut, values))
    return None


def _differing_argument(before: str, now: str) -> tuple[str, str, str]:
    """Its name, and both values. Both whole texts if their values are the same, or are not JSON."""
    left, right = _object_in(before), _object_in(now)
    for name in left | right if left is not None and right is not None else ():
        values = [_json(side[name]) if name in side else "nothing" for side in (left, right)]
        if values[0] != values[1]:
            return f"argument {name!r}", *values
    return "arguments", before, now


def _object_in(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is, None if it is none."""
    try:
        value = json.loads(text)
        _json(value)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"


def _mismatch_of_digests(recorded: Output, got: Output) -> FirstDifference | None:
    """The first difference in what the answers themselves do not show.

    Digests say whether logprobs were asked for. So they are comparable only if both requests asked,
    or neither did.
    """
    before, now = recorded.receipt, got.receipt
    both_or_neither = (recorded.logprobs is None) == (got.logprobs is None)
    if not (before and now) or not both_or_neither or before.version != now.version:
        return None
    if before.request_digest != now.request_digest:
        what = "the prompt's tokens or the sampling parameters in force"
        return FirstDifference(what, None, f"{before.request_digest}", f"{now.request_digest}")
    if before.output_digest != now.output_digest:
        what = "the prompt's tokens" if before.version == 1 else "the output's tokens"
        return FirstDifference(what, None, before.output_digest, now.output_digest)
    return None


def common_unit(outputs: Sequence[Output]) -> str:
    """The finest of UNITS that all outputs have."""
    has_all = (unit for unit in UNITS if all(getattr(o, unit) is not None for o in outputs))
    return next(has_all)


def logprob_digest(values: Sequence[float], alternatives: Sequence[Any] = ()) -> str:
    """A hash of the bits of logprobs, and of the alternatives to each token (JSON types)."""
    packed = struct.pack(f"<{len(values)}d", *values)
    if alternatives:
        packed += json.dumps(alternatives).encode()  # the text of a float determines its bits
    return hashlib.sha256(packed).hexdigest()[:_SHORT_HEX]


def first_difference(left: Sequence[Any], right: Sequence[Any]) -> int | None:
    """The first index at which two sequences differ, or one has ended. None if they are equal."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return None if len(left) == len(right) else min(len(left), len(right))


def comparable(text: str) -> str:
    """The text, with half a surrogate pair replaced, which no UTF-8 file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _piece(output: Output, unit: str, at: int) -> str:
    """What an output has at an index, for a person: a token, some characters, or its end."""
    pieces = getattr(output, unit)
    if at >= len(pieces):
        return "its end"
    if unit == "text":
        start = max(0, at - _CONTEXT // 3)
        return repr(output.text[start : at + _CONTEXT])
    text = repr(output.tokens[at]) if output.tokens and at < len(output.tokens) else ""
    return " ".join(filter(None, (str(pieces[at]) if unit == "ids" else "", text)))
