"""Whether a value of a request is of the kind, and in the range, that its option takes.

`name` is the option as the user writes it. The message of a refusal begins with it.
"""

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

from llm42_sglang.frontend.options import Refused

INT64 = range(-(2**63), 2**63)
MAX_STOPS = 32  # strings; SGLang's limit, checked here before each string is looked at


def refuse_range(name: str, ids: Iterable[Any], size: int, what: str = "token ids") -> None:
    """Raise Refused unless all `ids` are integers from 0 to `size` - 1. what: what they count."""
    values = list(ids)
    integers = all(
        kind is not bool and issubclass(kind, Integral) for kind in set(map(type, values))
    )
    require(integers, f"{name} must be integers")
    in_range = not values or (min(values) >= 0 and max(values) < size)
    require(in_range, range_of(name, size, what))


def range_of(name: str, size: int, what: str = "token ids") -> str:
    """Return the message that names the valid range."""
    return f"{name}: valid {what} are 0 to {size - 1}"


def refuse_other(name: str, value: Any, good: Any, what: str) -> None:
    """Raise Refused unless `value` is None or `good(value)` holds. what: what it must be."""
    require(value is None or good(value), f"{name} must be {what}, got {value!r:.40}")


def texts(name: str, value: Any) -> Sequence[str]:
    """Return the strings of an option that takes a string or a list of them. Raises Refused."""
    strings = [value] if isinstance(value, str) else (value if value is not None else [])
    good = isinstance(strings, list | tuple) and all(isinstance(text, str) for text in strings)
    require(good, f"{name} must be a string or a list of strings")
    require(len(strings) <= MAX_STOPS, f"{name}: at most {MAX_STOPS}, got {len(strings)}")
    require(all(map(encodes, strings)), f"{name} has half of a surrogate pair; send valid Unicode")
    return strings


def lists_in(value: Any) -> list[Any]:
    """Return the lists in a list of lists; a list without lists in it is returned alone."""
    if not isinstance(value, list | tuple):
        return []
    return [item for item in value if isinstance(item, list | tuple)] or [value]


def leaves(value: Any) -> Iterable[Any]:
    """Yield the values in nested lists; nothing for None."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    elif value is not None:
        yield value


def is_int(value: Any) -> bool:
    """Whether `value` is an integer of 64 bits; true and false are none."""
    # int(): a range would compare a NumPy integer with each of its numbers in turn.
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) in INT64


def is_finite(value: Any) -> bool:
    """Whether `value` is a finite number; true and false are none."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and abs(value) < 1e300 and math.isfinite(value)


def encodes(text: str) -> bool:
    """Whether `text` can be written in UTF-8. Half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def require(good: bool, message: str) -> None:
    """Raise Refused with this message unless `good`."""
    if not good:
        raise Refused(message)
