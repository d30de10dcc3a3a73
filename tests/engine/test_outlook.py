"""How a request stands to the lane, and who waits for whom. No server."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from sglang.srt.managers.schedule_batch import Req
from sglang.srt.managers.schedule_policy import AddReqResult, PrefillAdder
from sglang.srt.managers.scheduler import Scheduler
from sglang.srt.mem_cache.prefill_budget import PrefillBudget
from sglang.srt.model_executor.forward_batch_info import ForwardMode

from llm42_sglang.core.fairness import MOST_PASSED_OVER
from llm42_sglang.core.track import Track
from llm42_sglang.engine.loop.admission import HomogeneousPrefillAdder, longest_prompt
from llm42_sglang.engine.loop.request import DeterministicReq
from llm42_sglang.engine.scheduler import DeterministicScheduler
from tests.engine.fakes import FULL, Loop, T, batch_of, decoding, end, lane, ordinary, request


@pytest.mark.parametrize("max_new_tokens", range(2, 2 * T + 2))
@pytest.mark.parametrize("prompt_len", range(1, T + 2))
def test_past_its_length_limit_a_request_stays_in_the_pages_it_may_own(prompt_len, max_new_tokens):
    req = request(prompt=[0] * prompt_len, max_new_tokens=max_new_tokens)
    req.track = Track(T, prompt_len + 1, canonical_len=prompt_len, decoding=True)
    rows = prompt_len + max_new_tokens - 1  # ordinary decode never writes the last token's row
    pages = -(-rows // T)
    assert req.outlook(certified=False) is None  # it has no candidates
    for in_flight in range(1, max_new_tokens + T):
        req.launch(certified=False)
        tokens = prompt_len + 1 + in_flight
        seen = req.outlook(certified=False)
        assert seen.at_limit == ((tokens - 1) // T >= pages)
        assert seen.suspected == (tokens - prompt_len >= max_new_tokens)
        full = tokens >= T * (prompt_len // T + 1)
        assert seen.due == (full or seen.suspected)


class Pretended(PrefillAdder):
    """In place of SGLang's own adder: there is room for whole prompts, and then for a chunk."""

    def add_one_req(self, req: Req) -> AddReqResult:
        tokens = len(req.origin_input_ids)
        req.extend_end = min(tokens, self.rem_chunk_tokens)
        self.rem_chunk_tokens -= req.extend_end
        self.can_run_list.append(req)
        return AddReqResult.CONTINUE if req.extend_end == tokens else AddReqResult.OTHER

    add_chunked_req = add_one_req


class Adder(HomogeneousPrefillAdder, Pretended):
    """Ours over the pretended one."""


def admitted(queue: list[Req], running=(), chunk=None, overtaking: bool = True) -> list[int]:
    """Which of the queue are taken, as SGLang's scheduler asks."""
    adder = object.__new__(Adder)
    adder.slots, adder.page_size, adder.rem_chunk_tokens = 2, T, 100 * T
    adder.overtaking, adder.passed_over = overtaking, 0
    adder.running_batch, adder.can_run_list = batch_of(*running), []
    if chunk is not None:
        adder.add_chunked_req(chunk)
    for req in queue:
        req.full_untruncated_fill_ids = req.origin_input_ids
        if adder.add_one_req(req) != AddReqResult.CONTINUE:
            break
    return [i for i, req in enumerate(queue) if req in adder.can_run_list]


def kinds(first: type[Req], pattern: str) -> list[Req]:
    """A page each: `1` of this kind, `2` of the other. Of this kind, too: `W` takes what two pages
    leave of the budget, `L` all of it."""
    second = Req if first is DeterministicReq else DeterministicReq
    pages = {"W": 98, "L": 100}
    return [
        request(second if mark == "2" else first, prompt=[0] * T * pages.get(mark, 1))
        for mark in pattern
    ]


@pytest.mark.parametrize(
    ("queue", "running", "taken"),
    [
        ("111", [], [0, 1, 2]),
        ("111", [decoding()], [0, 1, 2]),
        ("111", [decoding(), ordinary()], [0, 1]),
        ("111", [decoding(), ordinary(output=1)], [0, 1, 2]),  # in the same burst, may be
        ("12111", [ordinary()], [0, 2]),  # filled from behind
    ],
)
def test_only_ordinary_requests_that_decode_keep_prefill_to_one_pass(queue, running, taken):
    assert admitted(kinds(DeterministicReq, queue), running) == taken


MOST = MOST_PASSED_OVER * "2"


@pytest.mark.parametrize("first", [DeterministicReq, Req])
@pytest.mark.parametrize(
    ("queue", "taken"),
    [
        ("12122", [0, 2]),
        (f"1{MOST}1", [0, MOST_PASSED_OVER + 1]),
        (f"12{MOST}1", [0]),
        ("12W", [0, 2]),
        ("12L", [0]),  # it would leave a chunk for the next batch to begin with
        ("1L", [0, 1]),  # overtakes nobody
    ],
)
def test_a_prefill_batch_takes_the_first_ones_kind_and_passes_nobody_over_for_long(
    first, queue, taken
):
    assert admitted(kinds(first, queue)) == taken


@pytest.mark.parametrize("first", [DeterministicReq, Req])
def test_behind_a_chunk_or_with_priorities_nobody_is_passed_over(first):
    (chunk,) = kinds(first, "1")
    assert admitted(kinds(first, "1121"), chunk=chunk) == [0, 1]
    assert admitted(kinds(first, "121"), overtaking=False) == [0]


# -- Who rides in a pass, and which results it needs --

OVER = FULL + 2


def two(*widths: int, candidates: int = OVER) -> Loop:
    """The second one's page is the more urgent."""
    reqs = [decoding("one", candidates - 1), decoding("another", candidates)]
    return Loop(*reqs, lane=lane(*widths))


@pytest.mark.parametrize(
    ("loop", "riders"),
    [
        (two(2), ["another"]),
        (two(4), ["another", "one"]),
        (two(1, 4), []),  # the prompt's pass has no empty slot
        (two(4, candidates=FULL - 1), []),  # nobody is due
    ],
)
def test_due_pages_take_a_prefills_empty_slots(loop, riders):
    loop.prefill()
    assert loop.events == ["pass", *(f"commit {name}" for name in riders)]


def test_nobody_rides_in_a_prefill_who_is_not_known_or_after_an_audit_has_failed():
    in_flight, failed = two(4), two(4)
    in_flight.result_queue.append((batch_of(), "result"))
    failed.verifier.service.end()
    for loop in (in_flight, failed):
        loop.prefill()
        assert loop.events == ["pass"]


@pytest.mark.parametrize(
    ("in_flight", "req", "events"),
    [
        (True, decoding(), []),
        (True, decoding(candidates=FULL), ["results", "pass", "commit id"]),
        (True, decoding(frequency_penalty=1.0), ["results"]),  # it needs the last token
        (True, end(decoding(frequency_penalty=1.0)), []),
        (False, decoding(frequency_penalty=1.0), []),
    ],
)
def test_the_loop_drains_for_a_pass_and_for_who_depends_on_output(in_flight, req, events):
    loop = Loop(req, lane=lane(8))
    loop.result_queue.extend([(batch_of(ordinary()), "result")] * in_flight)
    loop.before_step()
    assert loop.events == events


@pytest.mark.parametrize(
    ("scored_from", "read"),
    [(None, [False, False, True]), (2 * T, [False, False, True]), (T, [False, True, True])],
)
def test_only_pages_that_somebody_reads_need_logits(scored_from, read):
    """The last row gives the first token; rows that score the prompt are asked for from a place."""
    req = request(prompt=[0] * (2 * T + 3))
    req.track = Track(T, 2 * T + 3)
    if scored_from is not None:
        req.return_logprob, req.logprob_start_len = True, scored_from
    assert [req.reads_page(page, tokens) for page, tokens in enumerate((T, T, 3))] == read


# -- Prompts and decode steps in turn --


@pytest.fixture
def scheduler(monkeypatch) -> DeterministicScheduler:
    """Two ordinary requests decode, an ordinary one waits."""
    monkeypatch.setattr(Scheduler, "_should_defer_prefill", lambda self, running: False)
    monkeypatch.setattr(Scheduler, "run_batch", lambda self, batch: None)
    made = object.__new__(DeterministicScheduler)
    made.waiting_queue, made.chunked_req = [request(Req)], None
    made.running_batch = batch_of(ordinary(), ordinary())
    made.llm42_verifier = Loop(lane=lane(8)).verifier
    return made


def prefilled(scheduler: DeterministicScheduler, kind: type[Req]) -> None:
    """A prompt of this kind has run."""
    if kind is DeterministicReq:
        scheduler.llm42_verifier.scheduler.prefill()
    scheduler.run_batch(batch_of(mode=ForwardMode.EXTEND))


def owed(scheduler: DeterministicScheduler) -> bool:
    return scheduler._should_defer_prefill(scheduler.running_batch)


@pytest.mark.parametrize("waits", [Req, DeterministicReq])
@pytest.mark.parametrize("has_run", [Req, DeterministicReq])
@pytest.mark.parametrize("begun", [False, True])
def test_a_step_between_two_prompts_of_which_one_is_deterministic(scheduler, has_run, waits, begun):
    if begun:  # the rest of a prompt comes before the queue
        scheduler.chunked_req = request(waits)
    else:
        scheduler.waiting_queue = [request(waits)]
    scheduler.run_batch(batch_of())  # a decode step is no prompt
    assert not owed(scheduler)
    prefilled(scheduler, has_run)
    assert owed(scheduler) == (DeterministicReq in (has_run, waits))
    scheduler.llm42_verifier.planned(batch_of())
    assert not owed(scheduler)


def test_passes_for_verification_hold_no_prompt_up(scheduler):
    """Or one that runs before every step would hold it up for ever."""
    scheduler.llm42_verifier.between_steps(batch_of(decoding(candidates=FULL)), None)
    assert len(scheduler.llm42_verifier.lane.forward.passes) == 1
    assert not owed(scheduler)


def test_prompts_go_first_where_nobody_is_held_up_or_many_wait(scheduler):
    prefilled(scheduler, DeterministicReq)
    for reqs in ([decoding(), decoding()], [ordinary(output=1)] * 2):  # the latter of one burst
        assert not scheduler._should_defer_prefill(batch_of(*reqs))
    scheduler.waiting_queue = [request(Req)] * 2
    assert not owed(scheduler)


def test_sglangs_own_interval_counts_on(scheduler, monkeypatch):
    own = Mock(return_value=True)
    monkeypatch.setattr(Scheduler, "_should_defer_prefill", own)
    assert owed(scheduler)
    prefilled(scheduler, DeterministicReq)
    assert owed(scheduler) and own.call_count == 2


# -- After a failed audit --


def failed(*reqs: Req) -> Loop:
    loop = Loop(*reqs, lane=lane(8))
    loop.verifier.service.end()
    return loop


def test_all_deterministic_requests_end_wherever_they_are_and_ordinary_ones_go_on():
    waiting, in_grammar, stranger = decoding("waiting"), decoding("grammar"), ordinary()
    loop = failed(decoding("one"), stranger, decoding("another", candidates=OVER))
    loop.waiting_queue, loop.grammar_manager.grammar_queue = [waiting, stranger], [in_grammar]
    loop.before_step()
    assert loop.events == ["end one", "end another"]
    assert waiting.withdrawn and in_grammar.withdrawn  # they end when their turn comes
    assert not stranger.finished() and stranger.to_finish is None


def test_a_prompt_with_a_next_chunk_is_not_ended_under_sglangs_hands():
    """It is in the batch that has run, and SGLang goes on with it."""
    chunked = decoding("chunked")
    loop = failed(decoding("one"))
    loop.chunked_req = chunked
    loop.verifier.between_steps(loop.running_batch, batch_of(chunked, mode=ForwardMode.EXTEND))
    assert loop.events == ["end one"]
    assert chunked.withdrawn and not chunked.finished()


def test_the_loop_is_drained_once_for_those_who_end_and_never_again():
    loop = failed(decoding("one", frequency_penalty=1.0))
    for events in (["results", "end one"], []):
        loop.result_queue.append((batch_of(ordinary()), "result"))
        loop.events.clear()
        loop.before_step()
        assert loop.events == events


@pytest.mark.parametrize("pool", [20 * T, 40 * T])
def test_every_prompt_that_is_let_in_has_room_in_an_empty_pool(pool):
    """SGLang's own limit, the control, lets in some that wait for ever."""
    free = SimpleNamespace(page_size=T, available_size=lambda: pool)
    empty = SimpleNamespace(supports_mamba=lambda: False, evictable_size=lambda: 0)
    adder = object.__new__(PrefillAdder)
    adder.memory_budget = PrefillBudget(free, empty)
    adder.rem_chunk_tokens = None

    def has_room(length: int) -> bool:
        req = ordinary("a")
        req.full_untruncated_fill_ids, req.sampling_params.max_new_tokens = [0] * length, 0
        fits, _ = adder._check_prefill_budget(
            req,
            extend_input_len=length,
            total_tokens=length + T,  # with `per_req_token_overhead`
            swa_host_hit_length=0,
            chunk_limit=None,
        )
        return fits

    longest = longest_prompt(pool, T)
    assert has_room(longest) and not has_room(longest + 1)
    assert longest < (sglangs := pool - 1 - 5) and not has_room(sglangs - 1)
