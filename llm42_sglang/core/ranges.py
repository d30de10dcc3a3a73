"""Many numbers in few words."""

from collections.abc import Sequence


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as text, with runs shortened: "2-9, 12"."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    pairs = zip(starts, ends, strict=True)
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in pairs)
