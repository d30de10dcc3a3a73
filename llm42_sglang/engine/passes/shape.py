"""What passes and steps may look like: the value that certification returns."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """The forwards of this server whose rows are canonical: all of them give the same bits."""

    widths: tuple[int, ...]  # slots of a pass, ascending; the last one is G
    replayed: tuple[int, ...] = ()  # those of them whose pass comes from a CUDA graph
    step_sizes: frozenset[int] = frozenset()  # requests of a decode step (A4)

    def width_for(self, pages: int) -> int:
        """Slots of the narrowest pass that holds so many pages; 0 for none."""
        return next((width for width in self.widths if width >= pages), 0) if pages else 0

    def free_slots(self, pages: int) -> int:
        """Slots that the last of the passes for so many pages would run empty."""
        last = pages % self.widths[-1]
        return self.width_for(last) - last
