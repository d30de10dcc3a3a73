"""Whether a value of a request is of the kind, and in the range, that its option takes."""

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

from llm42_sglang.frontend.options import Refused

INT64 = range(-(2**63), 2**63)
MAX_STOPS = 32  # SGLang's limit, before each is looked at


def refuse_range(name: str, ids: Iterable[Any], size: int, what: str = "token ids") -> None:
    values = list(ids)
    integers = all(
        kind is not bool and issubclass(kind, Integral) for kind in set(map(type, values))
    )
    require(integers, f"{name} must be integers")
    good = not values or (min(values) >= 0 and max(values) < size)
    require(good, range_of(name, size, what))


def range_of(name: str, size: int, what: str = "token ids") -> str:
    return f"{name}: valid {what} are 0 to {size - 1}"


def refuse_other(name: str, value: Any, good: Any, what: str) -> None:
    require(value is None or good(value), f"{name} must be {what}, got {value!r:.40}")


def texts(name: str, value: Any) -> Sequence[str]:
    texts = [value] if isinstance(value, str) else (value if value is not None else [])
    good = isinstance(texts, list | tuple) and all(isinstance(each, str) for each in texts)
    require(good, f"{name} must be a string or a list of strings")
    require(len(texts) <= MAX_STOPS, f"{name}: at most {MAX_STOPS}")
    require(all(map(encodes, texts)), f"{name} has half of a surrogate pair")
    return texts


def lists_in(value: Any) -> list[Any]:
    """The innermost lists of a list, or of lists of them."""
    if not isinstance(value, list | tuple):
        return []
    return [each for each in value if isinstance(each, list | tuple)] or [value]


def leaves(value: Any) -> Iterable[Any]:
    """The values in nested lists; nothing for None."""
    if isinstance(value, list | tuple):
        for each in value:
            yield from leaves(each)
    elif value is not None:
        yield value


def is_int(value: Any) -> bool:
    # A range looks at every number for one that is not Python's own.
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) in INT64


def is_finite(value: Any) -> bool:
    good = isinstance(value, Real) and not isinstance(value, bool)
    return good and abs(value) < 1e300 and math.isfinite(value)


def encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def require(good: bool, message: str) -> None:
    if not good:
        raise Refused(message)
