"""How far a claim is right, whatever the pages are in which its rows come."""

from collections.abc import Sequence

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llm42_sglang.core import claim as module
from llm42_sglang.core.claim import Claim, Refutation, refutation
from llm42_sglang.core.verdict import Verdict

QUICK = settings(derandomize=True, deadline=None, max_examples=200)
tokens = st.lists(st.integers(0, 2), max_size=12)  # few tokens, so that they agree often


def checked(claimed: Sequence[int], truth: Sequence[int], pages: Sequence[int]) -> Claim:
    """The claim, after rows that draw `truth` as long as they follow it, in pages of these sizes.

    Rows behind a wrong token draw 9, which is never right.
    """
    right = refutation(claimed, truth)
    drawn = [*truth[: right.token + 1], *[9] * 20] if right else [*truth]
    claim, sizes = Claim(tuple(claimed)), iter(pages)
    at = 0
    while not claim.decided:
        size = min(next(sizes, 1), len(claimed) + 1 - at)
        claim = claim.read(drawn[at : at + size])
        at += size
    return claim


@QUICK
@given(tokens, tokens, st.integers(0, 2), st.lists(st.integers(1, 5), max_size=6))
def test_what_is_drawn_is_the_beginning_of_the_truth(claimed, others, last, pages):
    truth = [*claimed, last] if not others else [*others, *[last] * (len(claimed) + 1)]
    answer = checked(claimed, truth, pages).answer
    assert list(answer) == truth[: len(answer)]
    wrong = refutation(claimed, truth[: len(claimed)])
    assert len(answer) == (wrong.token if wrong else len(claimed)) + 1


def test_the_same_check_notices_a_claim_that_is_believed(monkeypatch):
    believing = lambda claimed, drawn: Verdict((*claimed, *drawn)[: len(drawn)], (), 0)  # noqa: E731
    monkeypatch.setattr(module, "judge", believing)
    with pytest.raises(AssertionError):
        test_what_is_drawn_is_the_beginning_of_the_truth()


@pytest.mark.parametrize(
    ("claimed", "answer", "expected"),
    [
        ([1, 2], [1, 2], None),
        ([3, 2], [1, 2], Refutation(0, 3, 1)),
        ([1, 2], [1, 3], Refutation(1, 2, 3)),
        ([1], [1, 2], Refutation(1, None, 2)),
        ([1, 2, 3], [1, 2], Refutation(2, 3, None)),
    ],
)
def test_where_a_claim_is_wrong(claimed, answer, expected):
    assert refutation(claimed, answer) == expected


def test_rows_after_the_decision_are_our_own_bug():
    with pytest.raises(AssertionError):
        Claim((1, 2)).read([3]).read([2])
