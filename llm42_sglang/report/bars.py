"""How far answers agree: a bar an answer, its agreeing part and the rest."""

from typing import NamedTuple


class Bar(NamedTuple):
    """Lengths in tokens or characters."""

    label: str
    agreeing: int
    length: int
    note: str

    @property
    def percent(self) -> float:
        """Of the bar, the part that agrees."""
        return 100 * self.agreeing / self.length if self.length else 100

    @property
    def whole(self) -> bool:
        return self.agreeing >= self.length


def bar(label: str, diverged_at: int | None, length: int, unit: str) -> Bar:
    """diverged_at: index of the first difference, or None."""
    if diverged_at is None:
        return Bar(label, length, length, f"all {length} {unit} agree")
    return Bar(label, diverged_at, max(length, diverged_at), f"{unit} part at {diverged_at}")
