"""Pages are aligned to absolute positions."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llm42_sglang.core.pages import (
    Span,
    page_index,
    page_span,
    split_into_pages,
)

QUICK = settings(derandomize=True, deadline=None, max_examples=100)
page_sizes = st.sampled_from([1, 2, 16, 32, 64])


def test_examples() -> None:
    assert page_span(2, 16) == Span(32, 48)
    assert [page_index(position, 16) for position in (0, 15, 16, 31, 32)] == [0, 0, 1, 1, 2]
    assert list(split_into_pages(Span(16, 35), 16)) == [Span(16, 32), Span(32, 35)]
    assert list(split_into_pages(Span(16, 16), 16)) == []
    assert len(Span(16, 35)) == 19


def test_a_span_that_starts_inside_a_page_is_our_own_bug() -> None:
    with pytest.raises(AssertionError):
        list(split_into_pages(Span(1, 5), 4))


@QUICK
@given(position=st.integers(0, 10_000), page_size=page_sizes)
def test_a_position_lies_in_its_page(position: int, page_size: int) -> None:
    start, end = page_span(page_index(position, page_size), page_size)
    assert start <= position < end and end - start == page_size and start % page_size == 0


@QUICK
@given(first=st.integers(0, 9), length=st.integers(0, 300), page_size=page_sizes)
def test_a_split_covers_the_span_without_crossing_a_page(
    first: int, length: int, page_size: int
) -> None:
    span = Span(first * page_size, first * page_size + length)
    parts = list(split_into_pages(span, page_size))
    assert [p for part in parts for p in range(*part)] == list(range(*span))
    assert all(page_index(p.start, page_size) == page_index(p.end - 1, page_size) for p in parts)
    assert len(parts) == -(-length // page_size)
