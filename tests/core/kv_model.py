"""A paged KV pool with a radix cache, in which every row remembers what it was computed from."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """KV of one position p."""

    prefix: tuple[int, ...]  # tokens [0, p] that it was computed from
    canonical: bool  # written by a canonical pass over canonical predecessors


EMPTY = Row((), False)
PADDING = Row((-1,), False)


class Pool:
    """`total` pages of T rows. A page is free, or held by requests, by the cache, or by both."""

    def __init__(self, total: int, page_size: int) -> None:
        self.total = total
        self.page_size = page_size
        self.free = list(range(total))
        self.rows = {page: [EMPTY] * page_size for page in range(total)}
        self.cache: dict[tuple[int, ...], int] = {}  # tokens [0, (k+1)*T) -> page k

    def take(self, held: set[int]) -> int | None:
        """A free page, at the cost of a cached one that no request holds."""
        if not self.free:
            self.evict(held, at_most=1)
        if not self.free:
            return None
        page = self.free.pop()
        self.rows[page] = [EMPTY] * self.page_size  # stale rows must not pass for good ones
        return page

    def give(self, pages: Iterable[int]) -> None:
        """A request lets go of `pages`; those in the cache stay there."""
        cached = set(self.cache.values())
        self.free += [page for page in pages if page not in cached]

    def evict(self, held: set[int], at_most: int) -> None:
        """Drop leaves of the cache, as a radix tree must: no page goes before its children."""
        for tokens in sorted(self.cache, key=len, reverse=True):
            leaf = not any(len(t) > len(tokens) and t[: len(tokens)] == tokens for t in self.cache)
            if at_most and leaf and self.cache[tokens] not in held:
                self.free.append(self.cache.pop(tokens))
                at_most -= 1

    def insert(self, tokens: tuple[int, ...], pages: Sequence[int]) -> None:
        """Offer the full pages of `tokens`; the cache keeps its own where it has them."""
        assert len(tokens) <= len(pages) * self.page_size, "offers more than it holds"
        for k in range(len(tokens) // self.page_size):
            self.cache.setdefault(tokens[: (k + 1) * self.page_size], pages[k])

    def match(self, tokens: tuple[int, ...]) -> list[int]:
        """The cached pages of the longest page-aligned prefix of `tokens`."""
        pages: list[int] = []
        for end in range(self.page_size, len(tokens) + 1, self.page_size):
            if tokens[:end] not in self.cache:
                break
            pages.append(self.cache[tokens[:end]])
        return pages

    def read(self, pages: Sequence[int]) -> list[Row]:
        """The rows of a request, from position 0."""
        return [row for page in pages for row in self.rows[page]]

    def check(self, held: Sequence[int]) -> None:
        """`held`: the pages of all requests, one entry per holder. Raises AssertionError."""
        cached = list(self.cache.values())
        owned = [page for page in held if page not in cached]
        assert len(set(owned)) == len(owned), "two requests hold one page outside the cache"
        assert sorted([*self.free, *cached, *owned]) == list(range(self.total)), "pages lost"
        for tokens, page in self.cache.items():
            first = len(tokens) - self.page_size
            for i, row in enumerate(self.rows[page]):
                good = Row(tokens[: first + i + 1], canonical=True)
                assert row == good, f"row {first + i} in the radix cache is {row}, not {good}"


def pages_needed(length: int, page_size: int) -> int:
    """Pages that hold positions [0, length)."""
    return -(-length // page_size)
