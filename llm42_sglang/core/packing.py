"""Pages cut into canonical passes; who is verified when is `policy`.

A pass has G slots and one shape, whatever is in it; a slot that no page fills holds a dummy.
Pages of one request may share a pass, in order: in every layer all rows write their KV before any
row attends, so a later page sees the earlier one as if it had come in a pass before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from llm42_sglang.core.pages import Span, page_index, split_into_pages

Request = TypeVar("Request")


@dataclass(frozen=True, slots=True)
class PageJob(Generic[Request]):
    """One page of one request, to be run as one slot. Rows past the tokens are padding."""

    request: Request
    page: int
    tokens: tuple[int, ...]  # real tokens from the page's first position on, 1..T of them


def jobs_for(
    request: Request, tokens: Sequence[int], span: Span, page_size: int
) -> Iterator[PageJob[Request]]:
    """The pages of `span`, as jobs; `tokens` are the request's known tokens from position 0."""
    for part in split_into_pages(span, page_size):
        page_tokens = tuple(tokens[part.start : part.end])
        yield PageJob(request, page_index(part.start, page_size), page_tokens)


def pack(jobs: Sequence[PageJob[Request]], group: int) -> list[list[PageJob[Request]]]:
    """Passes of at most `group` slots each, first come first served, order kept."""
    return [list(jobs[i : i + group]) for i in range(0, len(jobs), group)]
