"""JSON values as bytes, in one way only, so that a program in any language makes the same hash.

A value is a letter and what the letter says. All numbers are 8 bytes, the lowest byte first.
docs/receipts.md has the table.
"""

import hashlib
import struct
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

_INT64 = range(-(2**63), 2**63)


def digest(purpose: str, *values: object) -> str:
    """Return SHA-256 of the list [purpose, *values], 64 hex digits.

    Two purposes never hash the same bytes. Raises TypeError as `encoded` does.
    """
    return hashlib.sha256(encoded([purpose, *values])).hexdigest()


def encoded(value: object) -> bytes:
    """Return the bytes of a JSON value, or of bytes. Raises TypeError for any other type.

    1 and 1.0 are one number: not every JSON parser tells them apart.
    """
    match value:
        case None:
            return b"n"
        case bool():
            return b"t" if value else b"f"
        case int() | float():
            return _number(value)
        case str():
            return _sized(b"s", _utf8(value))
        case bytes():
            return _sized(b"b", value)
        case Mapping():
            pairs = sorted((_utf8(key), encoded(item)) for key, item in value.items())
            parts = (_sized(b"s", key) + item for key, item in pairs)
            return b"m" + struct.pack("<Q", len(pairs)) + b"".join(parts)
        case Sequence():
            return b"l" + struct.pack("<Q", len(value)) + b"".join(map(encoded, value))
    raise TypeError(f"{type(value).__name__} is no JSON type")


def packed(kind: Literal["q", "d"], numbers: Iterable[float]) -> bytes:
    """Return numbers as 8 bytes each, the lowest first. kind: "q" for integers, "d" for doubles.

    Raises OverflowError for an integer of more than 64 bits, TypeError for what is no number.
    """
    if isinstance(numbers, array) and numbers.typecode == kind and sys.byteorder == "little":
        return bytes(numbers)  # a prompt may have a hundred thousand ids
    values: array[Any] = array(kind, numbers)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _number(value: float) -> bytes:
    whole = isinstance(value, int) or value.is_integer()
    if whole and int(value) in _INT64:
        return b"i" + struct.pack("<q", int(value))
    return b"d" + struct.pack("<d", value)


def _sized(letter: bytes, content: bytes) -> bytes:
    return letter + struct.pack("<Q", len(content)) + content


def _utf8(text: object) -> bytes:
    """Half of a surrogate pair, which JSON may hold, has three bytes."""
    if not isinstance(text, str):
        raise TypeError(f"a key is a string, not {type(text).__name__}")
    return text.encode("utf-8", "surrogatepass")
