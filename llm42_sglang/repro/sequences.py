"""Where sequences part."""

from collections.abc import Sequence
from typing import Any


def first_difference(left: Sequence[Any], right: Sequence[Any]) -> int | None:
    """The first index at which two token sequences differ, an end being a difference too."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return None if len(left) == len(right) else min(len(left), len(right))
