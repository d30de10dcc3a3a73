"""The log probabilities of a row do not depend on where the row lies in memory."""

from math import inf, nan

import torch

from llm42_sglang.sampling import logprobs, token_logprobs, top_logprobs


def test_against_float64():
    torch.manual_seed(0)
    row = torch.randn(4099) * 5
    expected = row.double().log_softmax(0)
    torch.testing.assert_close(logprobs(row).double(), expected, rtol=1e-6, atol=1e-5)


def test_same_bits_in_any_company_and_stride():
    torch.manual_seed(0)
    matrix = torch.randn(9, 4099) * 5  # odd: rows start at every alignment
    columns = matrix.t().contiguous().t()
    for i, row in enumerate(matrix):
        alone = logprobs(row.clone())
        assert torch.equal(logprobs(matrix[i]), alone)
        assert torch.equal(logprobs(columns[i]), alone)


def test_the_row_is_left_as_it_was():
    row = torch.tensor([1.0, 2.0, -inf])
    logprobs(row)
    assert row.tolist() == [1.0, 2.0, -inf]


def test_no_infinity_leaves():
    values = logprobs(torch.tensor([0.0, -inf, 0.0]))
    assert values.isfinite().all() and values[1] == torch.finfo(torch.float32).min


def test_top_takes_the_lowest_id_among_equals():
    row = logprobs(torch.tensor([1.0, 3.0, 0.0, 3.0, 1.0, 1.0]))
    top = top_logprobs(row, 3)
    assert top.ids.tolist() == [1, 3, 0]
    assert torch.equal(top.values, row[[1, 3, 0]])


def test_top_of_more_than_there_are():
    assert top_logprobs(logprobs(torch.tensor([1.0, 2.0])), 5).ids.tolist() == [1, 0]


def test_top_of_none():
    for k in (0, -1):
        assert top_logprobs(logprobs(torch.tensor([1.0, 2.0])), k).ids.tolist() == []


def test_top_of_a_failed_row_does_not_raise():
    top = top_logprobs(logprobs(torch.tensor([1.0, nan, 2.0])), 2)
    assert top.ids.tolist() == [0, 1] and top.values.isnan().all()


def test_token_ids_in_the_order_asked():
    row = logprobs(torch.tensor([1.0, 3.0, 0.0]))
    assert torch.equal(token_logprobs(row, [2, 0, 2]), row[[2, 0, 2]])
    assert token_logprobs(row, []).shape == (0,)
