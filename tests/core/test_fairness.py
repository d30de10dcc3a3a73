"""The rules of `core/fairness.py`: whose turn it is, and when a decode step comes first."""

from itertools import product, zip_longest
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm42_sglang.core import fairness
from llm42_sglang.core.fairness import MOST_PASSED_OVER, PrefillBatch, SinceStep, Turn


class Waiting(NamedTuple):
    """A request of the queue."""

    name: int
    deterministic: bool
    whole: bool  # its prompt fits into what a batch has left


class Prefilled(NamedTuple):
    """One batch, and what it leaves."""

    kind: bool
    taken: list[Waiting]
    passed_over: list[Waiting]
    rest: Waiting | None  # a prompt with a next chunk


def put_together(queue: list[Waiting], rest: Waiting | None, overtaking: bool) -> Prefilled:
    """As SGLang's scheduler asks: one after the other, until the batch ends."""
    taken, passed_over = [rest] if rest else [], []
    for request in queue:
        kind = taken[0].deterministic if taken else None
        batch = PrefillBatch(kind, len(passed_over), overtaking and rest is None)
        turn = batch.turn(request.deterministic, request.whole)
        if turn is Turn.END:
            break
        (taken if turn is Turn.TAKE else passed_over).append(request)
        if turn is Turn.TAKE and not request.whole:
            return Prefilled(taken[0].deterministic, taken, passed_over, request)
    return Prefilled(taken[0].deterministic, taken, passed_over, None)


def batches(requests: list[tuple[bool, bool]], overtaking: bool) -> list[Prefilled]:
    """All of the queue; a prompt with a rest fits into the batch after."""
    queue = [Waiting(name, *request) for name, request in enumerate(requests)]
    rest, prefilled = None, []
    while queue or rest:
        batch = put_together(queue, rest, overtaking)
        prefilled.append(batch)
        queue = [request for request in queue if request not in batch.taken]
        rest = batch.rest
    return prefilled


def complaints(requests: list[tuple[bool, bool]], overtaking: bool) -> list[str]:
    """What breaks a promise of the module."""
    prefilled = batches(requests, overtaking)
    problems = []
    for batch, following in zip_longest(prefilled, prefilled[1:]):
        if len({request.deterministic for request in batch.taken}) > 1:
            problems.append("the kinds mix")
        if len(batch.passed_over) > MOST_PASSED_OVER:
            problems.append("too many are passed over")
        if batch.passed_over and not overtaking:
            problems.append("somebody is passed over with priorities")
        overtaken = [one for one in batch.passed_over if one.name < batch.taken[-1].name]
        if overtaken and following and overtaken[0] != following.taken[0]:
            problems.append("the first one passed over does not lead the next batch")
    return problems


queues = st.lists(st.tuples(st.booleans(), st.sampled_from([True, True, True, False])), max_size=80)


@given(queues, st.booleans())
@example([(True, True), *[(False, True)] * 40, (True, True)], True)
@example([(True, True), (False, True), (True, False)], True)
def test_nobody_is_passed_over_twice(requests, overtaking):
    assert complaints(requests, overtaking) == []


@pytest.mark.parametrize(
    ("mutant", "complaint"),
    [
        (lambda self, deterministic, whole: Turn.TAKE, "the kinds mix"),
        (
            lambda self, deterministic, whole: (
                Turn.TAKE if self.kind in (None, deterministic) else Turn.PASS_OVER
            ),
            "too many are passed over",
        ),
        (
            lambda self, deterministic, whole: ORIGINAL(self, deterministic, True),
            "the first one passed over does not lead the next batch",
        ),
    ],
)
def test_wrong_turns_are_noticed(monkeypatch, mutant, complaint):
    monkeypatch.setattr(fairness.PrefillBatch, "turn", mutant)
    queue = [(True, True), *[(False, True)] * 40, (True, True)]
    overtaking_with_a_rest = [(True, True), (False, True), (True, False)]
    assert complaint in [*complaints(queue, True), *complaints(overtaking_with_a_rest, True)]


ORIGINAL = PrefillBatch.turn


def test_a_step_is_owed_around_deterministic_prompts_unless_more_wait_than_decode():
    for before, deterministic_before, deterministic_next in product([False, True], repeat=3):
        since = SinceStep(prompts=before, deterministic_prompts=before and deterministic_before)
        around = before and (deterministic_before or deterministic_next)
        assert since.owes_step(deterministic_next, decoding=2, waiting=1) == around
        assert not since.owes_step(deterministic_next, decoding=2, waiting=2)
        assert not since.owes_step(deterministic_next, decoding=2, waiting=3)


def test_nothing_has_run_at_first():
    assert SinceStep() == SinceStep(passes=0, prompts=False, deterministic_prompts=False)


@pytest.mark.parametrize(
    ("passed_over", "turn"),
    [(0, Turn.PASS_OVER), (31, Turn.PASS_OVER), (32, Turn.END), (33, Turn.END)],
)
def test_so_many_are_passed_over_at_most(passed_over, turn):
    assert PrefillBatch(True, passed_over, True).turn(False, True) is turn
