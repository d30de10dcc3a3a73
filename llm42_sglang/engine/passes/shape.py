"""The shape of passes and steps: a value that certification returns."""

from dataclasses import dataclass

FEWEST = 3  # requests at once with which a pass may have two slots: certification needs as many


@dataclass(frozen=True, slots=True)
class Shape:
    """The passes and decode steps of this server whose rows are canonical.

    All of them give the same bits.
    """

    widths: tuple[int, ...]  # slots of a pass, ascending; the last one is G
    replayed: tuple[int, ...] = ()  # the widths of passes that come from a CUDA graph
    step_sizes: frozenset[int] = frozenset()  # requests of a canonical step (A4)

    def width_for(self, pages: int) -> int:
        """Return the width of the narrowest pass that holds so many pages; 0 for no page."""
        return next((width for width in self.widths if width >= pages), 0) if pages else 0

    def free_slots(self, pages: int) -> int:
        """Return how many slots stay free in the last of the passes for so many pages."""
        last = pages % self.widths[-1]
        return self.width_for(last) - last


def fitting(group: int, most: int) -> int:
    """Return how many slots a pass has, where SGLang's buffers hold `most`: G, or fewer."""
    return min(group, 1 << most.bit_length() - 1) if most >= FEWEST else 1
