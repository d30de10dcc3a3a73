"""Packing pages into passes loses none, keeps their order, and never fills more than G slots."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llm42_sglang.core.packing import (
    WORTH,
    PageJob,
    jobs_for,
    narrowest,
    pack,
    pages_of_passes,
)
from llm42_sglang.core.pages import Span

QUICK = settings(derandomize=True, deadline=None, max_examples=100)


def test_a_prompt_becomes_full_pages_and_one_partial() -> None:
    jobs = list(jobs_for("a", range(10), Span(0, 10), page_size=4))
    assert jobs == [
        PageJob("a", 0, (0, 1, 2, 3)),
        PageJob("a", 1, (4, 5, 6, 7)),
        PageJob("a", 2, (8, 9)),
    ]


def test_a_due_span_takes_its_tokens_from_the_whole_sequence() -> None:
    assert list(jobs_for("a", range(10), Span(4, 7), 4)) == [PageJob("a", 1, (4, 5, 6))]


def test_requests_share_a_pass_first_come_first_served() -> None:
    jobs = [PageJob(name, page, (1,)) for name, page in [("a", 0), ("a", 1), ("b", 7), ("c", 0)]]
    assert pack(jobs, (3,)) == [jobs[:3], jobs[3:]]
    assert pack([], (3,)) == []


@pytest.mark.parametrize(
    ("pages", "passes"),
    [(0, []), (5, [5]), (8, [8]), (9, [8, 1]), (12, [8, 4]), (13, [13]), (27, [16, 8, 3])],
)
def test_two_narrower_passes_replace_one_that_is_far_too_wide(pages: int, passes: list[int]):
    """docs/results/passes.json has, with T = 32: 1.70 s for 16 slots, 0.91 for 8, 0.25 for 1."""
    assert pages_of_passes(pages, (1, 2, 4, 8, 16)) == passes


def test_a_narrow_pass_is_not_divided_and_neither_is_one_without_narrower_ones():
    assert pages_of_passes(5, (1, 2, 4, 8)) == [5]
    assert pages_of_passes(9, (16,)) == [9]


@QUICK
@given(
    first=st.integers(0, 5),
    length=st.integers(0, 120),
    page_size=st.sampled_from([2, 4, 16]),
    widths=st.sets(st.sampled_from([1, 2, 3, 4, 8, 16]), min_size=1).map(sorted),
)
def test_passes_hold_each_token_once_in_order(
    first: int, length: int, page_size: int, widths: list[int]
) -> None:
    start = first * page_size
    span = Span(start, start + length)
    jobs = list(jobs_for("a", range(span.end), span, page_size))
    passes = pack(jobs, widths)
    assert [job for slots in passes for job in slots] == jobs
    assert all(1 <= len(slots) <= widths[-1] for slots in passes)
    assert all(len(slots) in widths for slots in passes[:-1])
    fewest = -(-len(jobs) // widths[-1])  # passes
    slots_run = sum(narrowest(len(slots), widths) for slots in passes)
    full, rest = divmod(len(jobs), widths[-1])
    in_fewest = full * widths[-1] + narrowest(rest, widths)
    assert len(passes) == fewest or (len(passes) == fewest + 1 and in_fewest - slots_run >= WORTH)
    assert [job.page for job in jobs] == list(range(first, first + len(jobs)))
    assert [token for job in jobs for token in job.tokens] == list(range(span.start, span.end))
    assert all(len(job.tokens) == page_size for job in jobs[:-1])
