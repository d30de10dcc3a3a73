"""What one verified page commits, keeps and drops."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llm42_sglang.core.verdict import Verdict, judge

QUICK = settings(derandomize=True, deadline=None, max_examples=200)
runs = st.lists(st.integers(0, 2), max_size=8)  # few tokens, so that runs agree often


@pytest.mark.parametrize(
    ("candidates", "verified", "expected"),
    [
        pytest.param([1, 2, 3], [1, 2, 3], Verdict((1, 2, 3), (), 0), id="all agree"),
        pytest.param([1, 2], [1, 2, 3], Verdict((1, 2, 3), (), 0), id="first of the next page"),
        pytest.param([], [5], Verdict((5,), (), 0), id="nothing proposed"),
        pytest.param([1, 2, 3], [9, 2, 3], Verdict((9,), (), 3), id="mismatch at the first row"),
        pytest.param([1, 2, 3], [1, 9, 3], Verdict((1, 9), (), 2), id="mismatch inside"),
        # Trap 1: the correction at the last row is a rollback like any other.
        pytest.param(
            [1, 2, 3], [1, 2, 9], Verdict((1, 2, 9), (), 1), id="mismatch at the last row"
        ),
        pytest.param([1, 9], [1, 2, 7], Verdict((1, 2), (), 1), id="rows after a mismatch"),
        # Trap 4: what lies past the verified page waits for its own pass ...
        pytest.param([1, 2, 3, 4], [1, 2], Verdict((1, 2), (3, 4), 0), id="run-ahead is kept"),
        # ... or falls with the page it was built on.
        pytest.param([1, 2, 3, 4], [1, 9], Verdict((1, 9), (), 3), id="run-ahead is dropped"),
    ],
)
def test_examples(candidates: list[int], verified: list[int], expected: Verdict) -> None:
    assert judge(candidates, verified) == expected


def test_a_pass_without_rows_is_our_own_bug() -> None:
    with pytest.raises(AssertionError):
        judge([1], [])


@QUICK
@given(runs, runs.filter(bool))
def test_the_run_is_the_verifiers_and_ends_at_the_first_disagreement(
    candidates: list[int], verified: list[int]
) -> None:
    run, kept, dropped = judge(candidates, verified)
    assert 1 <= len(run) <= len(verified)
    assert list(run) == verified[: len(run)]
    assert list(run[:-1]) == candidates[: len(run) - 1]
    corrected = candidates[len(run) - 1 : len(run)] not in ([], [run[-1]])
    assert corrected == (dropped > 0)
    if not corrected:  # nothing stops a run but a disagreement or the end of the candidates
        assert len(run) == min(len(verified), len(candidates) + 1)
        assert list(kept) == candidates[len(run) :]


@QUICK
@given(runs, runs.filter(bool))
def test_every_candidate_is_committed_kept_or_dropped(
    candidates: list[int], verified: list[int]
) -> None:
    run, kept, dropped = judge(candidates, verified)
    confirmed = min(len(run), len(candidates)) - (dropped > 0)
    assert confirmed + len(kept) + dropped == len(candidates)
