"""The draw from one row: kept tokens as in the oracle, ties, rows without a draw, other rows."""

from math import inf, nan

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llm42_sglang.sampling import NO_TOKEN, WHOLE_VOCABULARY, Plan, greedy, sample
from llm42_sglang.sampling.kept import fixed_point, kept_ids
from llm42_sglang.sampling.ranking import top_ids

from . import oracle

PLANS = [
    Plan(temperature=0.0),
    Plan(),
    Plan(temperature=0.7, top_k=50),
    Plan(top_p=0.9),
    Plan(min_p=0.05),
    Plan(temperature=1.3, top_k=500, top_p=0.95, min_p=0.01),
]

# Few distinct values, so that ties are the rule.
rows = st.lists(st.integers(-8, 8).map(lambda i: i / 2) | st.just(-inf), min_size=1, max_size=40)
plans = st.builds(
    Plan,
    temperature=st.sampled_from([0.3, 0.7, 1.0, 2.0]),
    top_k=st.integers(2, 50) | st.just(WHOLE_VOCABULARY),
    top_p=st.just(1.0) | st.floats(0.01, 0.999),
    min_p=st.just(0.0) | st.floats(0.001, 1.0),
    seed=st.integers(-(2**63), 2**63 - 1),
)


def kept_set(logits: list[float], plan: Plan) -> set[int]:
    row = torch.tensor(logits)
    ids = kept_ids(row, (row.double() - row.max()) / plan.temperature, plan)
    every = range(len(logits)) if ids is None else ids.tolist()
    return {i for i in every if logits[i] > -inf}


@settings(max_examples=200, deadline=None)
@given(rows, plans)
def test_the_kept_set_is_the_oracles(logits: list[float], plan: Plan):
    assume(max(logits) > -inf and oracle.boundary_distance(logits, plan) > 1e-9)
    assert kept_set(logits, plan) == oracle.kept(logits, plan)


@settings(max_examples=100, deadline=None)
@given(rows, plans, st.integers(0, 10**6))
def test_a_draw_is_a_kept_token_whatever_else_the_matrix_holds(logits, plan, position):
    assume(max(logits) > -inf and oracle.boundary_distance(logits, plan) > 1e-9)
    row = torch.tensor(logits)
    token = sample(row, plan, position)
    assert token in oracle.kept(logits, plan)
    wide = torch.full((len(logits), 3), nan)
    wide[:, 1] = row
    assert sample(wide[:, 1], plan, position) == token


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_any_company_any_order_any_stride(plan: Plan):
    """An odd vocabulary, so that the rows of a matrix start at every alignment."""
    torch.manual_seed(0)
    matrix = torch.randn(12, 4099) * 3
    alone = [sample(row.clone(), plan, 100 + i) for i, row in enumerate(matrix)]
    order = torch.randperm(12).tolist()
    shuffled, columns = matrix[order], matrix.t().contiguous().t()
    assert [sample(matrix[i], plan, 100 + i) for i in range(12)] == alone
    assert [sample(shuffled[order.index(i)], plan, 100 + i) for i in range(12)] == alone
    assert [sample(columns[i], plan, 100 + i) for i in range(12)] == alone
    assert not columns[0].is_contiguous()


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_the_row_is_left_as_it_was(plan: Plan):
    row = torch.linspace(-3, 3, 100, dtype=torch.float32)
    before = row.clone()
    sample(row, plan, 0)
    assert torch.equal(row, before)


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("logits", [[0.0, nan, 3.0], [-inf, -inf], [nan, inf, 1.0]])
def test_no_draw(logits: list[float], plan: Plan):
    assert sample(torch.tensor(logits), plan, 0) == NO_TOKEN


def test_an_infinite_logit_wins_greedily_and_has_no_distribution():
    row = torch.tensor([0.0, inf, inf])
    assert sample(row, Plan(temperature=0), 0) == 1
    assert sample(row, Plan(), 0) == NO_TOKEN


def test_masked_tokens_are_never_drawn():
    row = torch.full((200,), -inf)
    row[[7, 70]] = torch.tensor([-40.0, -41.0])
    for plan in PLANS[1:]:
        assert {sample(row, plan, i) for i in range(50)} <= {7, 70}


@pytest.mark.parametrize("plan", [Plan(top_k=1), Plan(temperature=0.0), Plan(temperature=1e-7)])
def test_greedy_plans_draw_nothing(plan: Plan):
    row = torch.tensor([1.0, 3.0, 3.0])
    assert plan.greedy
    assert {sample(row, plan, position) for position in range(20)} == {1}


def test_a_tiny_temperature_is_nearly_greedy():
    torch.manual_seed(0)
    row = torch.randn(1000) * 1e4
    assert sample(row, Plan(temperature=1e-5), 0) == greedy(row[None]).item()


@pytest.mark.parametrize("nucleus", [1000, 1024, 1025, 8192, 8193, 12000])
def test_a_nucleus_larger_than_the_guess(nucleus: int):
    """All tokens alike: exactly the lowest ids, on both sides of the shortcut."""
    row = torch.zeros(12288)
    ids = kept_ids(row, row.double(), Plan(top_p=(nucleus - 0.5) / 12288))
    assert sorted(ids.tolist()) == list(range(nucleus))


@settings(max_examples=100, deadline=None)
@given(rows, st.integers(1, 50))
def test_top_ids_are_ordered_by_value_and_id(values: list[float], k: int):
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    assert top_ids(torch.tensor(values), k).tolist() == expected


@pytest.mark.parametrize("vocab", [1, 2, 49152, 151936, 262144])
def test_fixed_point_mass_never_overflows(vocab: int):
    """The worst case: every token as likely as the largest."""
    mass = fixed_point(torch.zeros(vocab, dtype=torch.float64))
    assert mass.min() == mass.max() and int(mass.sum()) == int(mass[0]) * vocab


@pytest.mark.parametrize(
    "field",
    [
        {"temperature": -0.1},
        {"temperature": inf},
        {"temperature": nan},
        {"top_k": 0},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": nan},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"seed": 2**63},
        {"seed": -(2**63) - 1},
    ],
    ids=str,
)
def test_a_plan_out_of_range_is_refused_by_name(field: dict[str, float]):
    name = "sampling_seed" if "seed" in field else next(iter(field))
    with pytest.raises(ValueError, match=name):
        Plan(**field)
