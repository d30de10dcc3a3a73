"""The state of one request, event by event, with T = 4. The stateful test covers combinations."""

from collections.abc import Iterable
from dataclasses import asdict

import pytest

from llm42_sglang.core.pages import Span
from llm42_sglang.core.track import (
    Action,
    Born,
    Event,
    Prefilled,
    Proposed,
    Retracted,
    Stepped,
    Track,
    Verified,
    step,
)

T = 4


def after(track: Track, events: Iterable[Event]) -> Track:
    for event in events:
        track, _ = step(track, event)
    return track


def born(prompt_len: int, *candidates: int) -> Track:
    """A request that decodes: its first token is committed, `candidates` follow."""
    track = Track(page_size=T, committed_len=prompt_len)
    proposed = [Proposed(token, may_finish=False) for token in candidates]
    return after(track, [Prefilled(prompt_len), Born(1), *proposed])


def suspect(track: Track, token: int = 0) -> Track:
    return step(track, Proposed(token, may_finish=True))[0]


def test_at_first_nothing_is_canonical_and_nothing_counted() -> None:
    assert asdict(Track(page_size=T, committed_len=5)) == {
        **{"page_size": T, "committed_len": 5, "canonical_len": 0, "candidates": ()},
        **{"decoding": False, "finish_suspected": False, "canonical_steps": 0},
        **{"verify_passes": 0, "rollbacks": 0, "tokens_rolled_back": 0},
    }


def test_prefill_chunk_by_chunk_then_birth() -> None:
    track = Track(page_size=T, committed_len=10)
    for upto in (4, 8, 10):
        track, action = step(track, Prefilled(upto))
        assert action == Action() and not track.decoding
    track, action = step(track, Born(7))
    assert action == Action(commit=(7,))
    assert track.decoding and (track.committed_len, track.canonical_len) == (11, 10)
    assert track.kv_len == 10  # the first token's own row is still to be written


def test_candidates_are_known_but_neither_committed_nor_canonical() -> None:
    track = born(5, 2, 3)
    assert (track.canonical_len, track.committed_len, track.known_len) == (5, 6, 8)
    assert track.kv_len == 7


def test_due_when_the_page_is_full_and_not_before() -> None:
    assert not born(5, 2).due  # positions 4, 5, 6
    assert born(5, 2, 3).due
    assert born(5, 2, 3, 4, 5, 6).due  # run-ahead


@pytest.mark.parametrize("upto", [7, 8])
def test_a_prompt_is_not_due_before_it_is_born(upto: int) -> None:
    # A chunk ended one row before the prompt's end: nothing is decoded or verified yet.
    track = after(Track(page_size=T, committed_len=upto + 1), [Prefilled(upto)])
    assert not track.decoding and not track.due
    track = after(track, [Prefilled(upto + 1), Born(1)])
    assert track.decoding and not after(track, [Retracted(upto + 2)]).decoding


def test_a_first_token_that_was_not_handed_over_is_born_again() -> None:
    # Overlap: the KV was taken back before the engine had seen the prefill's result.
    track, _ = step(born(5), Retracted(5))
    assert track == Track(page_size=T, committed_len=5)
    again, action = step(after(track, [Prefilled(5)]), Born(1))
    assert action.commit == (1,) and again == born(5)


@pytest.mark.parametrize("known", [4, 7])
def test_no_other_token_can_be_lost_or_won_by_retraction(known: int) -> None:
    with pytest.raises(AssertionError):
        step(born(5, 2), Retracted(known))


def test_ahead_counts_candidates_past_the_page() -> None:
    assert [born(5, *range(n)).ahead for n in range(6)] == [0, 0, 0, 1, 2, 3]
    assert Track(page_size=T, committed_len=10).ahead == 0  # nothing decoded yet


def test_a_verified_page_leaves_the_next_one_due_if_that_is_full_too() -> None:
    track, action = step(born(5, *range(2, 8)), Verified([2, 3, 4]))  # T ahead
    assert action.dropped == 0 and track.due and track.ahead == 0
    assert track.due_span == Span(8, 12)


def test_a_mismatch_in_the_pages_last_token_leaves_one_row_to_write() -> None:
    # It stood on a wrong token. No candidate is left: decode on, or verify early.
    track, action = step(born(5, 2, 3, 4), Verified([2, 9, 8]))
    assert action == Action(commit=(2, 9), dropped=2)
    assert track.settled and not track.due and track.due_span == Span(4, 8)
    assert step(track, Proposed(5, may_finish=False))[0].due  # the first of the next page
    track, action = step(track, Verified([5]))
    assert action == Action(commit=(5,)) and not track.due


def test_canonical_steps_commit_what_they_draw() -> None:
    # Position 8 is the first of page 2: no page becomes due, and full ones are canonical.
    track = born(5)
    for token, position in ((2, 6), (3, 7), (4, 8), (5, 9)):
        track, action = step(track, Stepped(token))
        assert action == Action(commit=(token,))
        assert (track.committed_len, track.canonical_len) == (position + 1, position)
        assert track.settled and not track.due
    assert (track.canonical_steps, track.verify_passes, track.rollbacks) == (4, 0, 0)


def test_a_page_that_canonical_steps_began_is_verified_from_its_first_row() -> None:
    # A step of a size that is not certified, in mid-page: candidates from there on.
    track = after(born(3), [Stepped(2), Stepped(3), Proposed(4, may_finish=True)])
    assert track.due and track.due_span == Span(4, 7) and track.canonical_len == 5
    with pytest.raises(AssertionError, match="on top of candidates"):
        step(track, Stepped(5))
    track, action = step(track, Verified([4, 5]))  # rows 5 and 6: row 4 has given its token
    assert action == Action(commit=(4, 5)) and track.settled
    track, action = step(track, Stepped(6))
    assert action.commit == (6,) and track.canonical_len == 8
    assert (track.canonical_steps, track.verify_passes) == (3, 1)


def test_retraction_keeps_what_canonical_steps_committed() -> None:
    track, action = step(after(born(5), [Stepped(2), Stepped(3)]), Retracted(8))
    assert action == Action() and not track.settled
    assert (track.canonical_len, track.committed_len, track.canonical_steps) == (0, 8, 2)
    assert after(track, [Prefilled(8), Born(4), Stepped(5)]).committed_len == 10


def test_due_span_is_the_page_of_the_last_committed_token() -> None:
    assert born(5, 2).due_span == Span(4, 7)
    assert born(5, 2, 3, 4, 5, 6).due_span == Span(4, 8)  # one page, however far it ran ahead
    assert born(4).due_span == Span(4, 5)  # its row 4 is the first of page 1
    assert born(3).due_span == Span(0, 4)


def test_a_page_that_agrees_yields_the_first_token_of_the_next() -> None:
    track, action = step(born(5, 2, 3), Verified([2, 3, 9]))
    assert action == Action(commit=(2, 3, 9), dropped=0)
    assert (track.canonical_len, track.committed_len, track.kv_len) == (8, 9, 8)
    assert track.decoding and not track.due and track.page == 2
    assert (track.verify_passes, track.rollbacks, track.tokens_rolled_back) == (1, 0, 0)


def test_mismatch_inside_rewinds_to_the_corrected_token() -> None:
    track, action = step(born(5, 2, 3), Verified([9, 8, 7]))
    assert action == Action(commit=(9,), dropped=2)
    assert (track.canonical_len, track.committed_len, track.kv_len) == (6, 7, 6)
    assert (track.verify_passes, track.rollbacks, track.tokens_rolled_back) == (1, 1, 2)


def test_mismatch_at_the_last_row_is_a_rollback() -> None:
    # Trap 1. Page full, run-ahead by one: the last row speaks of the first token of page 2.
    track, action = step(born(5, 2, 3, 4), Verified([2, 3, 9]))
    assert action == Action(commit=(2, 3, 9), dropped=1)
    assert track.candidates == () and track.kv_len == 8
    assert track.rollbacks == 1


def test_a_finish_that_is_rolled_back_leaves_no_trace() -> None:
    # Trap 3.
    track = suspect(born(5, 2))
    assert track.due and track.due_span == Span(4, 8)
    track, action = step(track, Verified([2, 9, 8]))
    assert action == Action(commit=(2, 9), dropped=1)
    assert not track.finish_suspected
    assert not step(track, Proposed(3, may_finish=False))[0].finish_suspected


def test_a_suspect_past_the_page_stays_suspect() -> None:
    track = suspect(born(5, 2, 3, 4))  # candidates for 6 ... 9, the last one may finish
    track, _ = step(track, Verified([2, 3, 4]))
    assert track.candidates == (0,) and track.due
    track, action = step(track, Verified([0, 5]))
    assert action.commit == (0, 5) and not track.finish_suspected


def test_unverified_pages_are_verified_one_by_one_in_order() -> None:
    # Trap 4: three pages of candidates.
    track = born(5, *range(100, 111))  # positions 6 ... 16
    spans = []
    while track.due:
        spans.append(track.due_span)
        first = track.committed_len - 6
        rows = track.due_span.end - track.canonical_len
        track, action = step(track, Verified(range(100, 120)[first : first + rows]))
        assert action.dropped == 0 and len(action.commit) == rows
    assert spans == [Span(4, 8), Span(8, 12), Span(12, 16)]
    assert track.committed_len == 17 and not track.candidates


def test_a_rollback_takes_later_pages_with_it() -> None:
    track, action = step(born(5, *range(100, 111)), Verified([100, 9, 9]))
    assert action == Action(commit=(100, 9), dropped=10)
    assert track.candidates == () and track.kv_len == track.canonical_len == 7


def test_a_pass_need_not_say_what_follows_a_wrong_token() -> None:
    whole, cut = (step(born(5, 2, 3), Verified(drawn)) for drawn in ([2, 9, 4], [2, 9]))
    assert cut == whole and cut[1] == Action(commit=(2, 9), dropped=1)


def test_retraction_drops_candidates_and_keeps_what_is_committed() -> None:
    # Trap 5.
    track, action = step(suspect(born(5, 2, 3)), Retracted(6))
    assert action == Action(commit=(), dropped=3)
    assert (track.canonical_len, track.committed_len, track.candidates) == (0, 6, ())
    assert not track.due and not track.finish_suspected
    track = after(track, [Prefilled(4), Prefilled(6), Born(2)])  # a birth from row 5
    assert track.decoding and track.committed_len == 7


def test_retraction_in_the_middle_of_a_prefill() -> None:
    track = after(Track(page_size=T, committed_len=10), [Prefilled(4), Retracted(10)])
    assert track == Track(page_size=T, committed_len=10)


def test_verified_early_with_nothing_proposed_still_commits() -> None:
    track, action = step(born(5), Verified([3]))
    assert action == Action(commit=(3,)) and track.canonical_len == 6


def test_a_step_changes_nothing_in_place() -> None:
    track = born(5, 2, 3)
    step(track, Verified([2, 3, 9]))
    assert track == born(5, 2, 3)


@pytest.mark.parametrize(
    ("track", "event"),
    [
        pytest.param(Track(T, committed_len=8), Prefilled(9), id="prefill past the prompt"),
        pytest.param(Track(T, 8, canonical_len=4), Prefilled(0), id="prefill backwards"),
        pytest.param(Track(T, 8, canonical_len=4), Born(1), id="born before the last row"),
        pytest.param(Track(T, 8, canonical_len=4), Proposed(1, False), id="decode before birth"),
        pytest.param(Track(T, 8, canonical_len=4), Stepped(1), id="a canonical step before birth"),
        pytest.param(born(5, 2), Stepped(1), id="a canonical step on top of a candidate"),
        pytest.param(born(5), Retracted(4), id="a retraction that loses a committed token"),
        pytest.param(Track(T, 8, canonical_len=4), Verified([1] * 4), id="verify before birth"),
        pytest.param(born(5, 2, 3), Verified([2, 3]), id="a row short"),
        pytest.param(born(5, 2, 3), Verified([2, 3, 4, 5]), id="a padding row's token"),
        pytest.param(born(5, 2, 3), Verified([2, 9, 4, 5]), id="one after a wrong candidate"),
        pytest.param(born(5), Prefilled(5), id="prefill after birth"),
        pytest.param(born(5, 2, 3), None, id="no event at all"),
    ],
)
def test_an_event_the_state_does_not_allow(track: Track, event: Event) -> None:
    with pytest.raises(AssertionError):
        step(track, event)
