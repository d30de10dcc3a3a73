"""Greedy looks at nothing but the row, and takes the lowest id among equals."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm42_sglang.sampling import greedy


def test_lowest_id_among_equal_maxima():
    logits = torch.tensor([[0.0, 3.0, 3.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    assert greedy(logits).tolist() == [1, 0]


def test_a_nan_gives_no_token():
    """It would otherwise pass for the lowest id."""
    logits = torch.tensor([[0.0, float("nan"), 3.0], [0.0, 1.0, 3.0]])
    assert greedy(logits).tolist() == [-1, 2]


def test_a_row_that_masks_everything_gives_no_token():
    logits = torch.tensor([[float("-inf")] * 2, [float("-inf"), -1.0]])
    assert greedy(logits).tolist() == [-1, 1]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 300), st.integers(0, 2**31))
def test_a_row_is_sampled_alike_in_any_company(rows, vocab, seed):
    """Few distinct values, so that ties are the rule."""
    torch.manual_seed(seed)
    logits = torch.randint(0, 4, (rows, vocab)).float()
    together = greedy(logits).tolist()
    assert together == [greedy(row.unsqueeze(0)).item() for row in logits]
    assert together == [row.tolist().index(row.max()) for row in logits]
