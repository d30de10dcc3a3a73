"""The negative control of the stateful test: it must fail when the protocol is broken."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from llm42_sglang.core import packing
from llm42_sglang.core import track as protocol
from llm42_sglang.core.packing import PageJob, jobs_for, pack
from llm42_sglang.core.pages import Span, page_span
from llm42_sglang.core.track import (
    Action,
    Event,
    Prefilled,
    Proposed,
    Retracted,
    Stepped,
    Track,
    Verified,
)
from llm42_sglang.core.verdict import Verdict, judge

from .engine_model import Engine, Request
from .test_protocol_stateful import SETTINGS, Protocol

NO_SHRINKING = settings(SETTINGS, phases=[Phase.generate], report_multiple_bugs=False)

true_step = protocol.step
Tokens = Sequence[int]


def commits_without_checking(candidates: Tokens, verified: Tokens) -> Verdict:
    run = (*candidates, verified[-1])[: len(verified)]
    return Verdict(tuple(run), kept=tuple(candidates[len(verified) :]), dropped=0)


def last_row_rolls_nothing_back(candidates: Tokens, verified: Tokens) -> Verdict:
    verdict = judge(candidates, verified)
    if len(verdict.run) < len(verified):
        return verdict
    return verdict._replace(kept=tuple(candidates[len(verified) :]), dropped=0)


def commits_only_what_agrees(candidates: Tokens, verified: Tokens) -> Verdict:
    verdict = judge(candidates, verified)
    return verdict._replace(run=verdict.run[:-1]) if verdict.dropped else verdict


def keeps_candidates_after_a_mismatch(candidates: Tokens, verified: Tokens) -> Verdict:
    verdict = judge(candidates, verified)
    return verdict._replace(kept=tuple(candidates[len(verdict.run) :]), dropped=0)


def drops_candidates_past_the_page(candidates: Tokens, verified: Tokens) -> Verdict:
    return judge(candidates, verified)._replace(kept=())


def loses_the_next_pages_first_token(candidates: Tokens, verified: Tokens) -> Verdict:
    verdict = judge(candidates, verified)
    return verdict._replace(run=verdict.run[: max(1, len(candidates))])


def canonical_len_one_more(track: Track, event: Event) -> tuple[Track, Action]:
    track, action = true_step(track, event)
    if isinstance(event, Verified):
        track = replace(track, canonical_len=track.canonical_len + 1)
    return track, action


def canonical_len_counts_candidates(track: Track, event: Event) -> tuple[Track, Action]:
    track, action = true_step(track, event)
    if isinstance(event, Proposed):
        track = replace(track, canonical_len=track.kv_len)
    return track, action


def commits_at_birth_on_top_of_candidates(track: Track, event: Event) -> tuple[Track, Action]:
    """A certified size is enough for it: what was decoded before does not count."""
    if isinstance(event, Proposed) and track.candidates:
        more = replace(track, committed_len=track.committed_len + 1)
        return more, Action(commit=(event.token,))
    return true_step(track, event)


def commits_what_no_canonical_step_drew(track: Track, event: Event) -> tuple[Track, Action]:
    settled = isinstance(event, Proposed) and track.settled
    return true_step(track, Stepped(event.token) if settled else event)


def a_canonical_steps_row_does_not_count(track: Track, event: Event) -> tuple[Track, Action]:
    after, action = true_step(track, event)
    if isinstance(event, Stepped):
        after = replace(after, canonical_len=track.canonical_len)
    return after, action


def a_canonical_steps_own_token_has_a_row(track: Track, event: Event) -> tuple[Track, Action]:
    after, action = true_step(track, event)
    if isinstance(event, Stepped):
        after = replace(after, canonical_len=after.committed_len)
    return after, action


def canonical_steps_go_uncounted(track: Track, event: Event) -> tuple[Track, Action]:
    after, action = true_step(track, event)
    return replace(after, canonical_steps=0), action


def prefill_counts_one_page_more(track: Track, event: Event) -> tuple[Track, Action]:
    if isinstance(event, Prefilled) and 0 < event.upto <= track.committed_len - track.page_size:
        event = Prefilled(event.upto + track.page_size)
    return true_step(track, event)


def retraction_keeps_candidates(track: Track, event: Event) -> tuple[Track, Action]:
    if isinstance(event, Retracted):
        return replace(track, canonical_len=0), Action()
    return true_step(track, event)


def retraction_keeps_canonical_len(track: Track, event: Event) -> tuple[Track, Action]:
    after, action = true_step(track, event)
    if isinstance(event, Retracted):
        after = replace(after, canonical_len=track.canonical_len)
    return after, action


def suspicion_outlives_the_rollback(track: Track, event: Event) -> tuple[Track, Action]:
    after, action = true_step(track, event)
    if isinstance(event, Verified):
        after = replace(after, finish_suspected=track.finish_suspected)
    return after, action


def suspicion_forgets_kept_candidates(track: Track, event: Event) -> tuple[Track, Action]:
    after, action = true_step(track, event)
    if isinstance(event, Verified):
        after = replace(after, finish_suspected=False)
    return after, action


def rollbacks_go_uncounted(track: Track, event: Event) -> tuple[Track, Action]:
    after, action = true_step(track, event)
    return replace(after, rollbacks=0), action


def settled_in_spite_of_candidates(track: Track) -> bool:
    return track.decoding


def never_due_for_a_full_page(track: Track) -> bool:
    return track.finish_suspected


def never_due_for_a_suspected_finish(track: Track) -> bool:
    return bool(track.candidates) and track.room <= 0


def due_without_candidates(track: Track) -> bool:
    return track.decoding and (track.room <= 0 or track.finish_suspected)


def ahead_of_what_is_committed(track: Track) -> int:
    return len(track.candidates)


def span_ends_with_the_page(track: Track) -> Span:
    return page_span(track.page, track.page_size)


def ignores_the_group(jobs: Sequence[PageJob[Request]], group: int) -> list[list[PageJob[Request]]]:
    return [list(jobs)] if jobs else []


def packs_backwards(jobs: Sequence[PageJob[Request]], group: int) -> list[list[PageJob[Request]]]:
    return pack(jobs[::-1], group)


def loses_the_last_page(
    request: Request, tokens: Tokens, span: Span, page_size: int
) -> Iterator[PageJob[Request]]:
    jobs = list(jobs_for(request, tokens, span, page_size))
    yield from jobs[: max(1, len(jobs) - 1)]


def caches_provisional_pages(engine: Engine, request: Request) -> None:
    engine.pool.insert(request.known[: request.kv_rows], request.pages)


def keeps_pages_after_a_rollback(engine: Engine, request: Request) -> None:
    pass


def rolls_back_part_of_a_page(engine: Engine, request: Request) -> None:
    keep = request.kv_rows // engine.page_size
    request.pages, surplus = request.pages[:keep], request.pages[keep:]
    engine.pool.give(surplus)


def believes_drafts(engine: Engine, request: Request, right: int, shift: int) -> None:
    """They are committed as far as the request has pages, without a pass."""
    while (
        request in engine.live and request.track.settled and request.track.page < len(request.pages)
    ):
        token = request.draw(request.known)
        engine._release(request, engine._advance(request, Stepped(token)))


BROKEN: list[tuple[object, str, Callable[..., object]]] = [
    (protocol, "judge", commits_without_checking),
    (protocol, "judge", last_row_rolls_nothing_back),
    (protocol, "judge", commits_only_what_agrees),
    (protocol, "judge", keeps_candidates_after_a_mismatch),
    (protocol, "judge", drops_candidates_past_the_page),
    (protocol, "judge", loses_the_next_pages_first_token),
    (protocol, "step", canonical_len_one_more),
    (protocol, "step", canonical_len_counts_candidates),
    (protocol, "step", commits_at_birth_on_top_of_candidates),
    (protocol, "step", commits_what_no_canonical_step_drew),
    (protocol, "step", a_canonical_steps_row_does_not_count),
    (protocol, "step", a_canonical_steps_own_token_has_a_row),
    (protocol, "step", canonical_steps_go_uncounted),
    (protocol, "step", prefill_counts_one_page_more),
    (protocol, "step", retraction_keeps_candidates),
    (protocol, "step", retraction_keeps_canonical_len),
    (protocol, "step", suspicion_outlives_the_rollback),
    (protocol, "step", suspicion_forgets_kept_candidates),
    (protocol, "step", rollbacks_go_uncounted),
    (Track, "settled", settled_in_spite_of_candidates),
    (Track, "due", due_without_candidates),
    (Track, "due", never_due_for_a_full_page),
    (Track, "due", never_due_for_a_suspected_finish),
    (Track, "ahead", ahead_of_what_is_committed),
    (Track, "due_span", span_ends_with_the_page),
    (packing, "pack", ignores_the_group),
    (packing, "pack", packs_backwards),
    (packing, "jobs_for", loses_the_last_page),
    (Engine, "_cache", caches_provisional_pages),
    (Engine, "draft", believes_drafts),
    (Engine, "_trim", keeps_pages_after_a_rollback),
    (Engine, "_trim", rolls_back_part_of_a_page),
]


@pytest.mark.parametrize(
    ("owner", "attribute", "broken"), BROKEN, ids=[broken.__name__ for *_, broken in BROKEN]
)
def test_the_machine_catches(
    monkeypatch: pytest.MonkeyPatch, owner: object, attribute: str, broken: Callable[..., object]
) -> None:
    sound = getattr(owner, attribute)
    monkeypatch.setattr(
        owner, attribute, property(broken) if isinstance(sound, property) else broken
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Protocol, settings=NO_SHRINKING)
