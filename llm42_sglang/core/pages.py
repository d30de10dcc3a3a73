"""Pages are aligned to absolute positions: page k is [k*T, (k+1)*T).

The whole protocol rests on that alignment. It makes a page's canonical rows a function of the
tokens up to the page's end, and of nothing else. So a page has the same bits whatever wrote it:
prefill, chunked prefill, verification, or prefill again after a retraction. A page that the prefix
cache holds has them too.
"""

from collections.abc import Iterator
from typing import NamedTuple


class Span(NamedTuple):
    """A half-open range of absolute token positions, [start, end)."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


def page_index(position: int, page_size: int) -> int:
    """Return the index of the page that holds `position`."""
    return position // page_size


def page_span(page: int, page_size: int) -> Span:
    """Return the positions of page number `page`."""
    return Span(page * page_size, (page + 1) * page_size)


def split_into_pages(span: Span, page_size: int) -> Iterator[Span]:
    """Yield the parts of `span`, one for each page, in order. The last part may be shorter.

    `span.start` must be the first position of a page; anything else is an AssertionError.
    """
    assert span.start % page_size == 0, f"{span} does not start on a page of {page_size}"
    for start in range(span.start, span.end, page_size):
        yield Span(start, min(start + page_size, span.end))
