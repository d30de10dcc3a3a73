"""How pages are divided among canonical passes. Which pages, and when, is decided in `policy`.

A pass has at most G slots, and one slot holds one page. Slots that are left over hold dummy pages.

Several pages of one request may share a pass, in order. In every layer all rows write their KV
before any row attends. So a later page finds the KV of an earlier one, as if that had come in a
pass before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from llm42_sglang.core.pages import Span, page_index, split_into_pages

Request = TypeVar("Request")


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


def pack(jobs: Sequence[PageJob[Request]], group: int) -> list[list[PageJob[Request]]]:
    """Divide the jobs among passes of at most `group` slots each, in their order."""
    return [list(jobs[i : i + group]) for i in range(0, len(jobs), group)]
