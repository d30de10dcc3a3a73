"""How pages are divided among canonical passes. Which pages, and when, is decided in `policy`.

A pass has at most G slots, and one slot holds one page. Slots that are left over hold dummy pages.
Some narrower passes give the same bits. So the pages that fill no pass of G slots take a narrower
one, or two of them where one would be far too wide.

Several pages of one request may share a pass, in order. In every layer all rows write their KV
before any row attends. So a later page finds the KV of an earlier one, as if that had come in a
pass before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Generic, TypeVar

from llm42_sglang.core.pages import Span, page_index, split_into_pages

Request = TypeVar("Request")
WORTH = 4  # slots; a pass costs beside its rows no more than the rows of so many


@dataclass(frozen=True, slots=True)
class PageJob(Generic[Request]):
    """One page of one request, to be run in one slot. Rows past its tokens are padding."""

    request: Request
    page: int
    tokens: tuple[int, ...]  # real tokens from the page's first position on, 1..T of them


def jobs_for(
    request: Request, tokens: Sequence[int], span: Span, page_size: int
) -> Iterator[PageJob[Request]]:
    """Yield one job for each page of `span`, in order.

    `tokens` are the request's known tokens from position 0 on. `span` must start on a page.
    """
    for part in split_into_pages(span, page_size):
        page_tokens = tuple(tokens[part.start : part.end])
        yield PageJob(request, page_index(part.start, page_size), page_tokens)


def pack(jobs: Sequence[PageJob[Request]], widths: Sequence[int]) -> list[list[PageJob[Request]]]:
    """Divide the jobs among passes, in their order. widths: slots of a pass, ascending up to G."""
    ends = accumulate(pages_of_passes(len(jobs), widths), initial=0)
    return [list(jobs[start:end]) for start, end in pairwise(ends)]


def pages_of_passes(pages: int, widths: Sequence[int]) -> list[int]:
    """Return how many pages each pass has. As many as possible have G.

    The rest takes one pass, or two narrower ones if that leaves WORTH fewer slots empty.
    """
    group = widths[-1]
    rest = pages % group
    first = max((width for width in widths if width < rest), default=0)
    saved = narrowest(rest, widths) - first - narrowest(rest - first, widths)
    parts = [first, rest - first] if saved >= WORTH else [rest]
    return [group] * (pages // group) + [part for part in parts if part]


def narrowest(pages: int, widths: Sequence[int]) -> int:
    """Return the width of the narrowest pass that holds so many pages; 0 for no page."""
    return next((width for width in widths if width >= pages), 0) if pages else 0
