"""Penalties, mask and bias have SGLang's order and meaning, and depend on the output alone."""

from math import inf, nan

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm42_sglang.sampling import Adjustments, Plan, adjust, bias_pairs, sample

VOCAB = 8
NOTHING: list[int] = []
ROW = [0.5, -1.0, 2.0, 0.0, -0.25, 3.0, 1.0, -2.0]

# Multiples of 1/4, so that every sum below is exact in float32 and can be compared bitwise.
quarters = st.integers(-8, 8).map(lambda i: i / 4)
adjustments = st.builds(
    Adjustments,
    frequency_penalty=quarters,
    presence_penalty=quarters,
    repetition_penalty=st.sampled_from([0.5, 1.0, 1.25, 2.0]),
    min_new_tokens=st.integers(0, 6),
    stop_ids=st.frozensets(st.integers(0, VOCAB - 1), max_size=3),
    logit_bias=st.dictionaries(st.integers(0, VOCAB - 1), quarters | st.just(-inf), max_size=4).map(
        lambda bias: tuple(bias.items())
    ),
)
outputs = st.lists(st.integers(0, VOCAB - 1), max_size=12)
allowed = st.none() | st.lists(st.booleans(), min_size=VOCAB, max_size=VOCAB)


def step_by_step(given: Adjustments, output: list[int], mask: list[bool] | None) -> torch.Tensor:
    """As SGLang goes about it: a running sum for each penalty, whole rows at a time."""
    frequency, presence = torch.zeros(VOCAB), torch.zeros(VOCAB)
    repetition = torch.ones(VOCAB)
    for token in output:
        frequency[token] += given.frequency_penalty
        presence[token] = given.presence_penalty
        repetition[token] = given.repetition_penalty
    row = torch.tensor(ROW) - frequency - presence
    if len(output) < given.min_new_tokens:
        row[list(given.stop_ids)] += -inf
    row = torch.where(row < 0, row * repetition, row / repetition)
    if mask is not None:
        row[~torch.tensor(mask)] = -inf
    for token, bias in given.logit_bias:
        row[token] += bias
    return row


@settings(max_examples=200, deadline=None)
@given(adjustments, outputs, allowed)
def test_as_step_by_step(wanted: Adjustments, output: list[int], mask: list[bool] | None):
    raw = torch.tensor(ROW)
    adjusted = adjust(raw, wanted, output, None if mask is None else torch.tensor(mask))
    assert torch.equal(adjusted, step_by_step(wanted, output, mask))
    assert raw.tolist() == ROW


@settings(max_examples=50, deadline=None)
@given(adjustments, outputs, st.randoms())
def test_only_the_multiset_of_outputs_counts(wanted, output, random):
    shuffled = random.sample(output, len(output))
    raw = torch.tensor(ROW)
    assert torch.equal(adjust(raw, wanted, output), adjust(raw, wanted, shuffled))


def test_many_repeats_do_not_drift():
    """A running float sum of 0.1 is off by the thousandth step."""
    row = adjust(torch.zeros(VOCAB), Adjustments(frequency_penalty=0.1), [3] * 1000)
    assert row[3] == torch.tensor(1000.0) * torch.tensor(-0.1)


@pytest.mark.parametrize(
    "neutral", [Adjustments(), Adjustments(min_new_tokens=5), Adjustments(stop_ids=frozenset({1}))]
)
def test_neutral_costs_nothing(neutral: Adjustments):
    row = torch.tensor(ROW)
    assert neutral.neutral and adjust(row, neutral, [1, 2]) is row


@pytest.mark.parametrize(
    "active",
    [
        Adjustments(frequency_penalty=0.5),
        Adjustments(presence_penalty=-0.5),
        Adjustments(repetition_penalty=1.1),
        Adjustments(min_new_tokens=3, stop_ids=frozenset({5})),
        Adjustments(logit_bias=((5, -100.0),)),
    ],
    ids=str,
)
def test_each_option_alone_changes_the_row(active: Adjustments):
    row = torch.tensor(ROW)
    assert not active.neutral
    assert not torch.equal(adjust(row, active, [5, 5]), row)


def test_stop_ids_open_at_min_new_tokens():
    wanted = Adjustments(min_new_tokens=2, stop_ids=frozenset({5, VOCAB, 99, -1}))
    row = torch.tensor(ROW)
    drawn = [sample(adjust(row, wanted, [0] * n), Plan(temperature=0), n) for n in range(4)]
    assert drawn == [2, 2, 5, 5]


def test_no_bias_opens_what_the_grammar_closes():
    closed = torch.tensor([True] * 5 + [False] * 3)
    row = adjust(torch.tensor(ROW), Adjustments(logit_bias=((5, 100.0),)), NOTHING, closed)
    assert row[5] == -inf


def test_a_mask_may_be_a_function_with_a_row_of_its_own():
    raw = torch.tensor(ROW)
    masked = adjust(raw, Adjustments(), NOTHING, lambda row: row.clamp_(max=-1.0))
    assert masked.max() == -1.0 and raw.tolist() == ROW


def test_a_nan_stays_one():
    """A failed model must not turn into a banned token."""
    wanted = Adjustments(min_new_tokens=1, stop_ids=frozenset({0}), logit_bias=((0, -inf),))
    assert adjust(torch.full((VOCAB,), nan), wanted, NOTHING)[0].isnan()


def test_same_bits_in_any_company():
    matrix = torch.tensor([ROW] * 3).t().contiguous().t()
    wanted = Adjustments(frequency_penalty=0.3, presence_penalty=0.7, repetition_penalty=1.3)
    alone = adjust(torch.tensor(ROW), wanted, [1, 2, 2, 5])
    assert all(torch.equal(adjust(row, wanted, [1, 2, 2, 5]), alone) for row in matrix)


def test_bias_keys_that_spell_one_id():
    assert dict(bias_pairs({"1": 2.0, "7": -1, "01": 3.0})) == {1: 3.0, 7: -1.0}
    assert bias_pairs(None) == ()


@pytest.mark.parametrize("bias", [nan, inf])
def test_a_bias_without_a_meaning_is_refused_by_name(bias: float):
    with pytest.raises(ValueError, match="logit_bias"):
        Adjustments(logit_bias=((3, bias),))
