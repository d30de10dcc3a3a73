"""How a request stands to the lane, and who waits for whom. No server."""

from array import array
from collections import deque
from types import SimpleNamespace

import pytest
from sglang.srt.managers.schedule_batch import Req
from sglang.srt.managers.schedule_policy import AddReqResult, PrefillAdder
from sglang.srt.managers.scheduler import Scheduler
from sglang.srt.model_executor.forward_batch_info import ForwardMode
from sglang.srt.sampling.sampling_params import SamplingParams

from llm42_sglang.core.config import Config
from llm42_sglang.core.track import Track
from llm42_sglang.engine.admission import MOST_PASSED_OVER, HomogeneousPrefillAdder
from llm42_sglang.engine.request import DeterministicReq, Outlook
from llm42_sglang.engine.scheduler import DeterministicScheduler
from llm42_sglang.engine.verifier import Verifier

T = 8


def request(kind=DeterministicReq, prompt_len: int = 1, max_new_tokens: int = 9):
    params = SamplingParams(max_new_tokens=max_new_tokens)
    params.normalize(None)
    extra = {"page_size": T, "fingerprint": "f"} if kind is DeterministicReq else {}
    return kind("id", "", array("q", [0] * prompt_len), params, vocab_size=6, **extra)


@pytest.mark.parametrize("max_new_tokens", range(2, 2 * T + 2))
@pytest.mark.parametrize("prompt_len", range(1, T + 2))
def test_past_its_length_limit_a_request_stays_in_the_pages_it_may_own(prompt_len, max_new_tokens):
    req = request(prompt_len=prompt_len, max_new_tokens=max_new_tokens)
    req.track = Track(T, prompt_len + 1, canonical_len=prompt_len, decoding=True)
    rows = prompt_len + max_new_tokens - 1  # ordinary decode never writes the last token's row
    pages = -(-rows // T)
    for in_flight in range(max_new_tokens + T):
        tokens = prompt_len + 1 + in_flight
        seen = req.outlook(in_flight, step=in_flight)
        assert seen.at_limit == ((tokens - 1) // T >= pages)
        assert seen.suspected == (tokens - prompt_len >= max_new_tokens)
        full = tokens >= T * (prompt_len // T + 1)
        assert seen.due == (full or seen.suspected)


def decoding(kind=DeterministicReq, tokens: int = 2) -> Req:
    """With so many tokens of output."""
    req = request(kind)
    req.output_ids = array("q", [0] * tokens)
    return req


def pages_taken(running: list[Req], prompts: list[int], group: int = 2) -> list[bool]:
    """Which of these prompts' pages still fit into the batch."""
    adder = object.__new__(HomogeneousPrefillAdder)
    adder.slots, adder.page_size, adder.rem_chunk_tokens = group, T, 100 * T
    adder.running_batch = SimpleNamespace(reqs=running)
    adder.can_run_list = []
    fits = []
    for length in prompts:
        fits.append(adder._keep_to_one_pass())
        adder.can_run_list.append(SimpleNamespace(prefix_len=0, extend_end=length))
    return fits


def test_only_ordinary_requests_that_decode_keep_prefill_to_one_pass():
    prompts = [T, T, T]
    assert pages_taken([], prompts) == [True, True, True]
    assert pages_taken([decoding()], prompts) == [True, True, True]
    assert pages_taken([decoding(), decoding(Req)], prompts) == [True, True, False]
    just_prefilled = decoding(Req, tokens=1)  # in the same burst, may be
    assert pages_taken([decoding(), just_prefilled], prompts) == [True, True, True]


def admitted(
    queue: list[Req], running: tuple = (), chunk: Req | None = None, overtaking: bool = True
) -> list[int]:
    """Which of the queue are taken, as SGLang's scheduler asks; its own adder is pretended."""
    adder = object.__new__(HomogeneousPrefillAdder)
    adder.slots, adder.page_size, adder.rem_chunk_tokens = 2, T, 100 * T
    adder.overtaking, adder.passed_over = overtaking, 0
    adder.running_batch, adder.can_run_list = SimpleNamespace(reqs=list(running)), []
    if chunk is not None:
        adder.add_chunked_req(chunk)
    for req in queue:
        req.full_untruncated_fill_ids = req.origin_input_ids
        if adder.add_one_req(req) != AddReqResult.CONTINUE:
            break
    return [i for i, req in enumerate(queue) if req in adder.can_run_list]


@pytest.fixture
def pretended_adder(monkeypatch) -> None:
    def admit(adder, req):
        tokens = len(req.origin_input_ids)
        req.extend_end = min(tokens, adder.rem_chunk_tokens)
        adder.rem_chunk_tokens -= req.extend_end
        adder.can_run_list.append(req)
        return AddReqResult.CONTINUE if req.extend_end == tokens else AddReqResult.OTHER

    monkeypatch.setattr(PrefillAdder, "add_one_req", admit)
    monkeypatch.setattr(PrefillAdder, "add_chunked_req", admit)


def kinds(first: type[Req], pattern: str, prompt_len: int = T) -> list[Req]:
    """`1` stands for a request of this kind, `2` for one of the other."""
    second = Req if first is DeterministicReq else DeterministicReq
    return [request(first if mark == "1" else second, prompt_len) for mark in pattern]


@pytest.mark.usefixtures("pretended_adder")
@pytest.mark.parametrize("first", [DeterministicReq, Req])
def test_a_prefill_batch_takes_everybody_of_the_first_ones_kind(first):
    assert admitted(kinds(first, "12122")) == [0, 2]
    assert admitted(kinds(first, "1" + MOST_PASSED_OVER * "2" + "1")) == [0, MOST_PASSED_OVER + 1]


@pytest.mark.usefixtures("pretended_adder")
@pytest.mark.parametrize("first", [DeterministicReq, Req])
def test_nobody_is_passed_over_for_long(first):
    """Whoever overtakes leaves nothing for the next batch to begin with."""
    whole, long = 98 * T, 100 * T  # 100 pages are the budget
    assert admitted([*kinds(first, "12"), *kinds(first, "1", whole)]) == [0, 2]
    assert admitted([*kinds(first, "12"), *kinds(first, "1", long)]) == [0]
    assert admitted([*kinds(first, "1"), *kinds(first, "1", long)]) == [0, 1]  # overtakes nobody
    (chunk,) = kinds(first, "1")
    assert admitted(kinds(first, "1121"), chunk=chunk) == [0, 1]
    assert admitted(kinds(first, "121"), overtaking=False) == [0]
    assert admitted(kinds(first, "1" + (MOST_PASSED_OVER + 1) * "2" + "1")) == [0]


@pytest.mark.usefixtures("pretended_adder")
def test_beside_ordinary_requests_the_one_pass_is_filled_from_behind():
    assert admitted(kinds(DeterministicReq, "12111"), running=(decoding(Req),)) == [0, 2]


@pytest.fixture
def scheduler(monkeypatch) -> DeterministicScheduler:
    """Two ordinary requests decode, an ordinary one waits."""
    monkeypatch.setattr(Scheduler, "_should_defer_prefill", lambda self, running: False)
    monkeypatch.setattr(Scheduler, "run_batch", lambda self, batch: None)
    made = object.__new__(DeterministicScheduler)
    made.waiting_queue, made.chunked_req = [request(Req)], None
    made.running_batch = running(Req, Req)
    made.output_streamer = SimpleNamespace(hold=lambda: None, release=lambda: None)
    made.llm42_verifier = Verifier(made, lane(8), Config())
    return made


STEP = SimpleNamespace(forward_mode=ForwardMode.DECODE)


def running(*of: type[Req], tokens: int = 2) -> SimpleNamespace:
    """A batch whose requests have so many tokens of output."""
    reqs = [decoding(kind, tokens) for kind in of]
    return SimpleNamespace(reqs=reqs, batch_size=lambda: len(of))


def prefilled(scheduler: DeterministicScheduler, kind: type[Req]) -> None:
    """A prompt of this kind has run."""
    if kind is DeterministicReq:
        ranks = SimpleNamespace(note=lambda *what: None, require_agreement=lambda: None)
        scheduler.llm42_verifier.lane = SimpleNamespace(
            prefill=lambda batch, passengers: ([0], []), forward=SimpleNamespace(ranks=ranks)
        )
        scheduler.llm42_verifier.prefill(SimpleNamespace())
    scheduler.run_batch(SimpleNamespace(forward_mode=ForwardMode.EXTEND))


BOTH = (Req, DeterministicReq)


@pytest.mark.parametrize("waits", BOTH)
@pytest.mark.parametrize("has_run", BOTH)
def test_a_step_between_two_prompts_of_which_one_is_deterministic(scheduler, has_run, waits):
    scheduler.waiting_queue = [request(waits)]
    assert not scheduler._should_defer_prefill(scheduler.running_batch)
    prefilled(scheduler, has_run)
    owed = DeterministicReq in (has_run, waits)
    assert scheduler._should_defer_prefill(scheduler.running_batch) == owed
    scheduler.llm42_verifier.planned(STEP)
    assert not scheduler._should_defer_prefill(scheduler.running_batch)


def lane(*widths: int) -> SimpleNamespace:
    """A lane that is certified for passes of these widths."""
    return SimpleNamespace(
        forward=SimpleNamespace(
            width_for=lambda pages: min(w for w in widths if w >= pages),
            seats_beside=lambda rows: 0,
        )
    )


def verifier_of(scheduler, queue: tuple = (), due: bool = True) -> Verifier:
    """Of a scheduler with these steps in flight and two requests, whose pages are full or not."""
    scheduler.result_queue = deque(queue)
    made = Verifier(scheduler, lane(1, 2, 4), Config(group=4))
    made.lane.audit = SimpleNamespace(failed=False)
    outlook = Outlook(due=due, at_limit=False, suspected=False, ahead=0, waited=0)
    both = [("one", outlook), ("another", outlook._replace(waited=1))]
    made._outlooks = lambda batches: both if scheduler.running_batch in batches else []
    return made


IN_FLIGHT = (("batch", "result"),)


def test_due_pages_take_a_prefills_empty_slots(scheduler):
    assert verifier_of(scheduler)._passengers(1) == ["another"]  # it has waited longer
    assert verifier_of(scheduler)._passengers(3) == ["another", "one"]


def test_nobody_takes_one_who_is_not_due_or_not_known(scheduler):
    assert verifier_of(scheduler)._passengers(0) == []
    assert verifier_of(scheduler, due=False)._passengers(1) == []
    assert verifier_of(scheduler, IN_FLIGHT)._passengers(1) == []
    failed = verifier_of(scheduler)
    failed.lane.audit.failed = True
    assert failed._passengers(1) == []


def batch_of(looks_back: bool, finished: bool = False) -> SimpleNamespace:
    """One deterministic request that needs its last token to propose the next, or does not."""
    req = request()
    req.chooser = SimpleNamespace(looks_back=looks_back)
    req.finished = lambda: finished
    return SimpleNamespace(reqs=[req, request(Req)])


@pytest.mark.parametrize(
    ("queue", "due", "batch", "drains"),
    [
        (IN_FLIGHT, False, batch_of(looks_back=False), False),
        (IN_FLIGHT, True, batch_of(looks_back=False), True),
        (IN_FLIGHT, False, batch_of(looks_back=True), True),
        (IN_FLIGHT, False, batch_of(looks_back=True, finished=True), False),
        ((), True, batch_of(looks_back=True), False),  # nothing is in flight
    ],
)
def test_the_loop_drains_for_a_pass_and_for_who_looks_back(scheduler, queue, due, batch, drains):
    scheduler.running_batch = batch
    assert verifier_of(scheduler, queue, due)._results_wanted([batch]) == drains


@pytest.mark.parametrize(
    ("scored_from", "read"),
    [(None, [False, False, True]), (2 * T, [False, False, True]), (T, [False, True, True])],
)
def test_only_pages_that_somebody_reads_need_logits(scored_from, read):
    """The last row gives the first token; rows that score the prompt are asked for from a place."""
    req = request(prompt_len=2 * T + 3)
    req.track = Track(T, 2 * T + 3)
    if scored_from is not None:
        req.return_logprob, req.logprob_start_len = True, scored_from
    assert [req.reads_page(page, tokens) for page, tokens in enumerate((T, T, 3))] == read


def test_the_rest_of_a_prompt_comes_before_the_queue(scheduler):
    scheduler.chunked_req = request(DeterministicReq)
    prefilled(scheduler, Req)
    assert scheduler._should_defer_prefill(scheduler.running_batch)


def test_passes_for_verification_hold_no_prompt_up(scheduler):
    """Or one that runs before every step would hold it up for ever."""
    scheduler.llm42_verifier._passes = 1
    assert not scheduler._should_defer_prefill(scheduler.running_batch)


def test_a_decode_step_is_no_prompt(scheduler):
    scheduler.run_batch(STEP)
    scheduler.waiting_queue = [request(DeterministicReq)]
    assert not scheduler._should_defer_prefill(scheduler.running_batch)


def test_prompts_go_first_where_nobody_is_held_up_or_many_wait(scheduler):
    prefilled(scheduler, DeterministicReq)
    assert not scheduler._should_defer_prefill(running(DeterministicReq, DeterministicReq))
    assert not scheduler._should_defer_prefill(running(Req, Req, tokens=1))  # of one burst
    scheduler.waiting_queue = [request(Req)] * 2
    assert not scheduler._should_defer_prefill(scheduler.running_batch)


def test_sglangs_own_interval_counts_on(scheduler, monkeypatch):
    asked = []
    monkeypatch.setattr(
        Scheduler, "_should_defer_prefill", lambda self, running: asked.append(1) or True
    )
    prefilled(scheduler, DeterministicReq)
    assert scheduler._should_defer_prefill(scheduler.running_batch) and asked == [1]
