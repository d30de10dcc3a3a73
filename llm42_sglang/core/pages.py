"""Pages are aligned to absolute positions: page k is [k*T, (k+1)*T).

That alignment is the heart of the protocol: a page's canonical rows are a function of the tokens
up to it, so prefill, verification, chunking, retraction and cache hits all meet in the same bits.
"""

from collections.abc import Iterator
from typing import NamedTuple


class Span(NamedTuple):
    """Half-open range of absolute token positions, [start, end)."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


def page_index(position: int, page_size: int) -> int:
    """The page that holds `position`."""
    return position // page_size


def page_span(page: int, page_size: int) -> Span:
    """The positions of `page`."""
    return Span(page * page_size, (page + 1) * page_size)


def split_into_pages(span: Span, page_size: int) -> Iterator[Span]:
    """The parts of `span`, page by page, in order. `span.start` must be page-aligned."""
    assert span.start % page_size == 0, f"{span} does not start on a page of {page_size}"
    for start in range(span.start, span.end, page_size):
        yield Span(start, min(start + page_size, span.end))
