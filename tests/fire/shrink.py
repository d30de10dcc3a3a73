"""A trace that fails becomes a small one: delta debugging on its events.

Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002): leave parts out,
at first large ones. A try plays what is left. What needs some luck to fail may pass, and its
events then stay.
"""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def shrink(
    items: Sequence[Item],
    fails: Callable[[Sequence[Item]], bool],
    tries: int = 60,
    deadline: float = float("inf"),
) -> list[Item]:
    """The smallest part that was seen to fail; all items, if no smaller one did.

    tries: how often `fails` is called at most; none begins after the deadline (time.monotonic).
    With tries enough the fault is gone from the result if any single item is left out.
    """
    left, parts = list(items), 2
    while len(left) > 1 and parts <= len(left):
        size = -(-len(left) // parts)
        for start in range(0, len(left), size):
            if tries <= 0 or time.monotonic() > deadline:
                return left
            rest = left[:start] + left[start + size :]
            tries -= 1
            if fails(rest):
                left, parts = rest, max(parts - 1, 2)
                break
        else:
            if size == 1:
                return left
            parts = min(2 * parts, len(left))
    return left
