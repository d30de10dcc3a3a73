"""Packing pages into passes loses none, keeps their order, and never fills more than G slots."""

import hypothesis.strategies as st
from hypothesis import given, settings

from llm42_sglang.core.packing import PageJob, jobs_for, pack
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
    assert pack(jobs, group=3) == [jobs[:3], jobs[3:]]
    assert pack([], group=3) == []


@QUICK
@given(
    first=st.integers(0, 5),
    length=st.integers(0, 40),
    page_size=st.sampled_from([2, 4, 16]),
    group=st.integers(1, 5),
)
def test_passes_hold_each_token_once_in_order(
    first: int, length: int, page_size: int, group: int
) -> None:
    start = first * page_size
    span = Span(start, start + length)
    jobs = list(jobs_for("a", range(span.end), span, page_size))
    passes = pack(jobs, group)
    assert [job for slots in passes for job in slots] == jobs
    assert all(1 <= len(slots) <= group for slots in passes)
    assert all(len(slots) == group for slots in passes[:-1])
    assert [job.page for job in jobs] == list(range(first, first + len(jobs)))
    assert [token for job in jobs for token in job.tokens] == list(range(span.start, span.end))
    assert all(len(job.tokens) == page_size for job in jobs[:-1])
