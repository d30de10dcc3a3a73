"""Drafts: what a text says about what follows, and whether a pass for it pays."""

from collections.abc import Sequence

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llm42_sglang.core.drafts import (
    MARGIN,
    SIZES,
    Costs,
    Drafter,
    Offer,
    OwnText,
    worth_a_pass,
)

QUICK = settings(derandomize=True, deadline=None, max_examples=300)
tokens = st.integers(0, 2)  # few, so that texts repeat themselves
texts = st.lists(tokens, max_size=40)
# A token to push; None: pop.
changes = st.lists(st.none() | tokens, max_size=60)
seconds = st.floats(0.01, 1)
COSTS = Costs({1: 1.0, 2: 1.5, 4: 2.5}, {1: 1.0, 4: 1.0, 16: 2.0})


def searched(text: Sequence[int]) -> int | None:
    """The naive search: the latest earlier place of the longest n-gram that ends the text."""
    for size in SIZES:
        for end in range(len(text) - 1, size - 1, -1):
            if text[end - size : end] == text[len(text) - size :]:
                return end
    return None


@QUICK
@given(changes)
def test_the_index_finds_what_a_search_finds(changed: list[int | None]) -> None:
    text, plain = OwnText(), []
    for token in changed:
        if token is not None:
            text.push(token)
            plain.append(token)
        elif plain:
            text.pop()
            plain.pop()
        assert text.tokens == plain
        assert text.follower() == searched(plain)


@pytest.mark.parametrize(
    ("text", "follower"),
    [
        ([1, 2, 3, 4, 9, 0, 2, 3, 4, 8, 1, 2, 3, 4], 4),  # four tokens before three
        ([2, 3, 4, 9, 0, 3, 4, 8, 2, 3, 4], 3),  # three before two
        ([3, 4, 9, 3, 4, 8, 3, 4], 5),  # of two places the later one
        ([4, 9, 4], None),  # one token says nothing
    ],
)
def test_the_longest_of_four_tokens_counts(text: list[int], follower: int | None) -> None:
    own = OwnText()
    for token in text:
        own.push(token)
    assert own.follower() == follower


@QUICK
@given(texts, st.integers(1, 10))
def test_a_draft_is_what_followed_before(text: list[int], most: int) -> None:
    drafter = Drafter()
    drafter.follow(text, ())
    draft, known = drafter.draft(most), list(text)
    assert len(draft) in (0, most)
    for i, token in enumerate(draft):
        assert token == known[drafter.source + i]
        known.append(token)  # a text that repeats itself goes on repeating itself


@QUICK
@given(st.lists(st.tuples(texts, texts), max_size=5))
def test_candidates_that_were_dropped_leave_no_trace_in_the_text(
    rounds: list[tuple[list[int], list[int]]],
) -> None:
    drafter, committed = Drafter(), []
    for more, candidates in rounds:
        drafter.follow(more, candidates)
        committed += more
        assert drafter.fixed_len == len(committed)
        assert drafter.text.tokens == committed + candidates
        assert drafter.text.follower() == searched(committed + candidates)


def test_it_stays_with_a_place_that_was_right_and_outlives_a_replaced_token() -> None:
    drafter = Drafter()
    source = [*range(100, 140)]
    drafter.follow([*source, 7, 7, 7, *source[:4]], ())
    assert drafter.draft(3) == source[4:7]
    drafter.follow([], [999])  # in place of source[4]
    assert drafter.draft(3) == source[5:8]


def test_the_rate_follows_the_guesses_that_were_right() -> None:
    drafter, before = Drafter(), 0.0
    drafter.follow([1, 2, 3, 4, 1, 2], ())
    assert drafter.expected(8) == 0.0  # a first match proves nothing
    for token in (3, 4, 1, 2, 3, 4):
        drafter.follow([token], ())
        assert before < drafter.expected(8) < 8
        before = drafter.expected(8)
    drafter.follow([9], ())
    assert drafter.expected(8) < before


def test_the_latest_guess_counts_one_eighth() -> None:
    drafter = Drafter()
    drafter.follow([1, 2, 3, 4, 1, 2], ())
    drafter.follow([3], ())
    assert drafter.rate == 1 / 8
    drafter.follow([4], ())
    assert drafter.rate == 1 / 8 + 7 / 8 * 1 / 8
    before = drafter.rate
    drafter.follow([9], ())
    assert drafter.rate == before * 7 / 8


@pytest.mark.parametrize("wrong", [0, 9])
def test_any_other_token_is_a_wrong_guess(wrong: int) -> None:
    drafter = Drafter()
    drafter.follow([1, 2, 3, 4, 1, 2], ())
    assert drafter.draft(1) == [3]
    drafter.follow([wrong], ())
    assert drafter.rate == 0


def test_a_guess_is_counted_once_though_its_candidate_is_seen_again() -> None:
    drafter = Drafter()
    drafter.follow([1, 2, 3, 4, 1, 2], (3, 4))
    rate, draft = drafter.rate, drafter.draft(3)
    drafter.follow([], (3, 4))
    drafter.follow([3], (4,))
    assert (drafter.rate, drafter.draft(3)) == (rate, draft)


@QUICK
@given(st.floats(0, 1), st.integers(0, 20))
def test_a_token_is_right_only_if_all_before_it_are(rate: float, most: int) -> None:
    drafter = Drafter()
    drafter.rate = rate
    assert drafter.expected(most) == 0  # nothing to draft from
    drafter.source = 0
    exactly = sum(rate**tokens for tokens in range(1, most + 1))
    assert drafter.expected(most) == pytest.approx(exactly, abs=1e-9)


@QUICK
@given(st.floats(0, 1), st.integers(0, 64))
def test_more_tokens_are_expected_of_a_longer_draft_and_of_a_better_rate(
    rate: float, most: int
) -> None:
    drafter = Drafter()
    drafter.source = 0
    drafter.rate = rate
    expected = drafter.expected(most)
    assert 0 <= expected <= most
    assert expected <= drafter.expected(most + 1) + 1e-9
    drafter.rate = min(1.0, rate + 0.05)
    assert expected <= drafter.expected(most) + 1e-9


offers = st.lists(st.floats(0.01, 32), max_size=12)


def taken(expected: Sequence[float], costs: Costs, decoding: int, ordinary: bool) -> list[int]:
    """The offers, by index, that run in a pass."""
    made = [Offer(i, tokens) for i, tokens in enumerate(expected)]
    return worth_a_pass(made, costs, decoding, ordinary)


@QUICK
@given(offers, st.integers(1, 40), st.booleans(), seconds, seconds)
def test_a_pass_promises_more_than_the_steps_of_its_time(
    expected: list[float], decoding: int, ordinary: bool, pass_s: float, step_s: float
) -> None:
    costs = Costs({1: pass_s, 4: 3 * pass_s}, {1: step_s, 16: 2 * step_s})
    chosen = taken(expected, costs, decoding, ordinary)
    assert len({*chosen}) == len(chosen) <= 4
    if chosen:
        took_s = costs.pass_s(len(chosen))
        by_steps = took_s / costs.step_s(decoding) * decoding
        assert sum(expected[i] + 1 for i in chosen) > 0.999 * MARGIN * by_steps
        assert not ordinary or took_s <= costs.step_s(decoding)
        left_out = {*range(len(expected))} - {*chosen}
        assert all(expected[i] <= min(expected[j] for j in chosen) for i in left_out)


@QUICK
@given(offers, st.integers(1, 40), st.booleans(), st.floats(0, 8))
def test_better_drafts_cheaper_passes_and_slower_steps_never_end_a_pass(
    expected: list[float], decoding: int, ordinary: bool, better: float
) -> None:
    if not taken(expected, COSTS, decoding, ordinary):
        return
    assert taken([tokens + better for tokens in expected], COSTS, decoding, ordinary)
    cheaper = Costs({n: s / (1 + better) for n, s in COSTS.passes.items()}, COSTS.steps)
    assert taken(expected, cheaper, decoding, ordinary)
    slower = Costs(COSTS.passes, {n: s * (1 + better) for n, s in COSTS.steps.items()})
    assert taken(expected, slower, decoding, ordinary)
    assert taken(expected, COSTS, decoding, ordinary=False)


@pytest.mark.parametrize(
    ("expected", "decoding", "ordinary", "chosen"),
    [
        pytest.param([], 1, False, [], id="nobody has a draft"),
        pytest.param([0.2], 1, False, [], id="too little for a pass"),
        pytest.param([0.25], 1, False, [], id="just too little"),
        pytest.param([0.3], 1, False, [0], id="just enough"),
        pytest.param([15.0, 0.25], 2, False, [0], id="a second slot that gains nothing"),
        pytest.param([3.0], 1, False, [0], id="alone"),
        pytest.param([3.0], 8, False, [], id="seven others would wait for it"),
        pytest.param([3.0, 15.0], 8, False, [1, 0], id="the best first"),
        pytest.param([0.1, 31.0], 8, False, [1], id="a slot that gains less than it costs"),
        pytest.param([15.0, 15.0], 4, True, [0], id="as wide as ordinary requests can wait"),
        pytest.param([15.0], 16, True, [0], id="a pass that is shorter than the step"),
        pytest.param([20.0] * 9, 9, False, [0, 1, 2, 3], id="no more than there are slots"),
    ],
)
def test_examples(expected: list[float], decoding: int, ordinary: bool, chosen: list[int]) -> None:
    assert taken(expected, COSTS, decoding, ordinary) == chosen


def test_steps_between_two_measured_sizes_lie_between_them() -> None:
    assert [COSTS.step_s(n) for n in (1, 2, 4, 10, 16, 99)] == [1.0, 1.0, 1.0, 1.5, 2.0, 2.0]
    assert [COSTS.pass_s(n) for n in (1, 2, 3, 4)] == [1.0, 1.5, 2.5, 2.5]
    assert COSTS.context == 256
    outside = Costs({1: 1.0}, {4: 1.0, 8: 3.0, 16: 4.0})
    assert [outside.step_s(n) for n in (1, 6, 17)] == [1.0, 2.0, 4.0]
