"""The policy: which requests a pass verifies, and the bounds that its docstring proves.

The same checks must fail on mutants of the policy.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, given, settings

from llm42_sglang.core.config import ConfigError
from llm42_sglang.core.policy import Due, LanePolicy

from .policy_model import Lane, Odds

Request = TypeVar("Request")

MOST_REQUESTS = 40
QUICK = settings(derandomize=True, deadline=None, max_examples=300, report_multiple_bugs=False)
POLICY = LanePolicy(group=3, wait_steps=4, run_ahead=8, finish_steps=2)
MANY = 99  # deterministic requests decoding
SITUATIONS = (
    "due again",
    "no pass although somebody is due",
    "ran ahead by a page",
    "rollback past a page",
    "several passes",
)

odds = st.builds(
    Odds,
    wrong=st.sampled_from([0, 0, 0.02, 0.3]),
    wrong_at_page_end=st.sampled_from([0, 0, 0.5, 1]),
    suspected=st.sampled_from([0, 0, 0, 0.1]),
)


@st.composite
def lanes(draw: st.DrawFn, policy_class: type[LanePolicy]) -> Lane:
    """Traffic at, below and above the bound on count, of every phase or all of one."""
    page_size = draw(st.sampled_from([2, 4, 8]))
    run_ahead = draw(st.sampled_from([page_size, page_size, page_size // 2, 0]))
    wait_steps = draw(st.integers(0, page_size))
    finish_steps = draw(st.integers(0, 3))
    policy = policy_class(draw(st.integers(1, 4)), wait_steps, run_ahead, finish_steps)
    at_the_bound = [policy.group * steps for steps in (run_ahead, wait_steps) if steps]
    count = draw(st.sampled_from([*at_the_bound, 1]) | st.integers(1, MOST_REQUESTS))
    prompts = [draw(st.integers(1, page_size))] * count
    if draw(st.booleans()):
        prompts = [1 + number % page_size for number in range(count)]
    return Lane(policy, page_size, prompts, draw(odds), draw(st.integers(0, 999)))


def check_promises(policy_class: type[LanePolicy], how: settings) -> Counter[str]:
    """Run traffic of every kind; the lane asserts. Returns the situations met."""
    seen: Counter[str] = Counter()

    @how
    @given(lanes(policy_class))
    def run(lane: Lane) -> None:
        lane.run(steps=6 * lane.page_size)
        seen.update(lane.seen)

    run()
    return seen


def test_the_bounds_hold() -> None:
    seen = check_promises(LanePolicy, QUICK)
    assert not [situation for situation in SITUATIONS if seen[situation] < 3]


def test_one_request_above_the_bound_needs_a_second_pass() -> None:
    policy, never = LanePolicy(group=2, wait_steps=4, run_ahead=4), Odds(0, 0, 0)
    second_pass = []
    for count in (8, 9):
        lane = Lane(policy, page_size=4, prompts=[1] * count, odds=never, seed=0)
        lane.run(steps=40)
        second_pass.append(lane.seen["several passes"] > 0)
    assert second_pass == [False, True]


class LastInFirstOut(LanePolicy):
    def _urgency(self, one: Due[Request]) -> tuple[bool, int]:
        return False, -self._steps_left(one)


class NeverCountsWaited(LanePolicy):
    def _steps_left(self, one: Due[Request]) -> int:
        return self.run_ahead - one.ahead


class WaitsForAFullGroup(LanePolicy):
    def choose(self, due: Sequence[Due[Request]], passes: int, decoding: int) -> list[Request]:
        return self.fill(due, self.group) if len(due) >= self.group and passes == 0 else []


class OnePassAGap(LanePolicy):
    def choose(self, due: Sequence[Due[Request]], passes: int, decoding: int) -> list[Request]:
        return [] if passes else super().choose(due, passes, decoding)


class PassesWhileAnyoneIsDue(LanePolicy):
    def choose(self, due: Sequence[Due[Request]], passes: int, decoding: int) -> list[Request]:
        return self.fill(due, self.group)


class IgnoresTheGroup(LanePolicy):
    def fill(self, due: Sequence[Due[Request]], free: int) -> list[Request]:
        return super().fill(due, len(due))


class BlockedOneStepLate(LanePolicy):
    def _blocked(self, one: Due[Request]) -> bool:
        return one.ahead > self.run_ahead

    def _steps_left(self, one: Due[Request]) -> int:
        return super()._steps_left(one) + 1


class AlwaysTheFirstComers(LanePolicy):
    def _urgency(self, one: Due[Request]) -> tuple[bool, int]:
        return False, 0


@pytest.mark.parametrize(
    "mutant",
    [
        LastInFirstOut,
        NeverCountsWaited,
        WaitsForAFullGroup,
        OnePassAGap,
        PassesWhileAnyoneIsDue,
        IgnoresTheGroup,
        BlockedOneStepLate,
        AlwaysTheFirstComers,
    ],
)
def test_the_same_check_fails_a_mutant(mutant: type[LanePolicy]) -> None:
    with pytest.raises(AssertionError):
        check_promises(mutant, settings(QUICK, phases=[Phase.generate]))


def waiting(
    *waited: int, ahead: Sequence[int] | None = None, suspected: int = -1
) -> list[Due[int]]:
    aheads = waited if ahead is None else ahead
    both = enumerate(zip(waited, aheads, strict=True))
    return [Due(i, far, steps, suspected=i == suspected) for i, (steps, far) in both]


@pytest.mark.parametrize(
    ("due", "passes", "riders"),
    [
        pytest.param([], 0, [], id="nobody is due"),
        pytest.param(waiting(0, 3), 0, [], id="waits for company"),
        pytest.param(waiting(0, 4), 0, [1, 0], id="waited out, and takes the other along"),
        pytest.param(waiting(0, 1, 2), 0, [2, 1, 0], id="the group is full"),
        pytest.param(waiting(0, 2, 1, 3), 0, [3, 1, 2], id="the last comer stays"),
        pytest.param(waiting(0, 0, 0, 0), 0, [0, 1, 2], id="ties: first come, first served"),
        pytest.param(waiting(0, 1, suspected=1), 0, [], id="a suspected finish waits"),
        pytest.param(waiting(0, 2, suspected=1), 0, [1, 0], id="a client has waited enough"),
        pytest.param(waiting(0, 3, suspected=1), 0, [1, 0], id="suspected after it had waited"),
        pytest.param(waiting(0, 1, ahead=[8, 0]), 0, [0, 1], id="blocked, though it came last"),
        pytest.param(
            waiting(9, 1, ahead=[0, 8], suspected=0), 0, [1, 0], id="blocked before suspected"
        ),
        pytest.param(waiting(7, 7, 7, 7), 1, [], id="no second pass while they may decode"),
        pytest.param(waiting(0, 2, suspected=1), 1, [], id="no second pass for a suspect"),
        pytest.param(waiting(1, 8, 2), 1, [1, 2, 0], id="a second pass for a blocked request"),
    ],
)
def test_choose(due: list[Due[int]], passes: int, riders: list[int]) -> None:
    assert POLICY.choose(due, passes, MANY) == riders


def test_nobody_waits_for_company_that_cannot_come() -> None:
    assert [POLICY.choose(waiting(0, 0), 0, decoding) for decoding in (2, 3)] == [[0, 1], []]
    assert POLICY.choose([], 0, 0) == []


@QUICK
@given(
    waited=st.lists(st.integers(0, 12), max_size=9),
    passes=st.integers(0, 2),
    suspected=st.integers(-9, 8),
    others=st.integers(0, 2),
)
def test_a_pass_with_free_slots_has_a_reason(
    waited: list[int], passes: int, suspected: int, others: int
) -> None:
    due = waiting(*waited, suspected=suspected)
    riders = POLICY.choose(due, passes, len(due) + others)
    assert riders == POLICY.fill(due, POLICY.group)[: len(riders)]
    patience = [POLICY.finish_steps if one.suspected else POLICY.wait_steps for one in due]
    pressing = any(one.waited >= most for one, most in zip(due, patience, strict=True))
    full = len(riders) == POLICY.group
    assert not riders or full or (len(riders) == len(due) and (pressing or not others))


def test_without_run_ahead_a_due_request_is_verified_at_once() -> None:
    policy = LanePolicy(group=8, wait_steps=8, run_ahead=0)
    assert [policy.choose(waiting(0), passes, MANY) for passes in (0, 1, 2)] == [[0]] * 3


def test_spare_slots_go_to_anybody_who_is_due() -> None:
    due = waiting(0, 3, 2, suspected=2)
    assert [POLICY.fill(due, free) for free in range(4)] == [[], [2], [2, 1], [2, 1, 0]]


def test_who_names_no_suspicion_and_no_patience() -> None:
    assert not Due("a request", ahead=0, waited=0).suspected
    assert LanePolicy(group=1, wait_steps=0, run_ahead=0).finish_steps == 4


@pytest.mark.parametrize(
    "values", [(0, 4, 4), (8, -1, 4), (8, 4, -1), (8, 4, 1.5), (True, 4, 4), ("8", 4, 4)]
)
def test_values_that_make_no_policy(values: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="must be a whole number"):
        LanePolicy(*values)
