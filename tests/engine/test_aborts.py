"""Whom an abort ends, wherever the request is. No server."""

import asyncio
from array import array
from functools import partial
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest
from sglang.srt.disaggregation.utils import DisaggregationMode
from sglang.srt.managers import schedule_batch, tokenizer_manager
from sglang.srt.managers import scheduler as sglangs
from sglang.srt.managers.detokenizer_manager import DetokenizerManager
from sglang.srt.managers.io_struct import AbortReq, GenerateReqInput
from sglang.srt.managers.schedule_batch import Req
from sglang.srt.managers.scheduler import Scheduler

from llm42_sglang.engine.front import namesakes
from llm42_sglang.engine.front.namesakes import abort_left, abort_named, forget_namesake
from llm42_sglang.engine.loop.request import DeterministicReq
from llm42_sglang.engine.scheduler import DeterministicScheduler
from tests.engine import client
from tests.engine.fakes import ordinary, request

NAMES = ("job-1", "job-10", "my-job-1", "")
PLACES = ("waiting", "grammar", "running", "chunked")


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.setattr(sglangs, "get_serving", lambda: SimpleNamespace(weight_version=None))
    monkeypatch.setattr(schedule_batch, "get_parallel", lambda: SimpleNamespace(tp_rank=0))


class Unhooked(Scheduler):
    """SGLang's own."""


def ended(kind: type[Scheduler], place: str, abort: AbortReq) -> list[str]:
    """The names of those that `abort` ends, of a request per name in this place."""
    names = NAMES[:2] if place == "chunked" else NAMES
    reqs = [request(name=name) if i % 2 else ordinary(name) for i, name in enumerate(names)]
    gone: list[str] = []
    scheduler = object.__new__(kind)
    scheduler.chunked_req = reqs[1] if place == "chunked" else None
    scheduler.waiting_queue = reqs[:] if place == "waiting" else []
    grammars = SimpleNamespace(grammar_queue=reqs if place == "grammar" else [])
    grammars.abort_requests = partial(sglangs.GrammarManager.abort_requests, grammars)
    scheduler.grammar_manager = grammars
    scheduler.collect_inflight_reqs = lambda: reqs if place == "running" else []
    scheduler.mm_receiver = scheduler.dllm_config = None
    scheduler.disaggregation_mode = DisaggregationMode.NULL
    scheduler._pending_chunked_abort_req = None
    scheduler._release_aborted_request = lambda req: None
    scheduler.beam_coordinator = SimpleNamespace(retire_group=lambda req: None)
    scheduler.send_abort_output = lambda abort, req: gone.append(req.rid)
    scheduler.abort_request(abort)
    assert [req.rid for req in reqs] == [*names]
    gone += [req.rid for req in reqs if req.to_finish is not None]
    if scheduler._pending_chunked_abort_req is not None:
        gone.append(scheduler._pending_chunked_abort_req.rid)
    return sorted(gone)


@pytest.mark.parametrize("place", PLACES)
def test_an_abort_ends_the_request_of_its_name_alone(place):
    for name in ("job-1", "job-10"):
        expected = [] if (place, name) == ("chunked", "job-1") else [name]
        assert ended(DeterministicScheduler, place, AbortReq(rid=name)) == expected
    everybody = sorted(NAMES) if place != "chunked" else ["job-10"]
    assert ended(DeterministicScheduler, place, AbortReq(abort_all=True)) == everybody


@pytest.mark.parametrize("place", PLACES)
def test_negative_control_sglang_ends_the_namesake_too(place):
    assert "job-10" in ended(Unhooked, place, AbortReq(rid="job-1"))


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({"rid": "job-1"}, ["job-1"]),
        ({"rid": "job-1*"}, ["job-1", "job-10"]),
        ({"rid": "odd*"}, ["odd*"]),  # somebody's name
        ({"rid": "none*"}, []),
        ({"rid": "job-1*", "abort_all": True}, ["job-1*"]),
    ],
)
def test_a_star_is_one_abort_for_each_that_begins_so(asked, sent):
    aborts = []
    manager = SimpleNamespace(rid_to_state=dict.fromkeys(["job-1", "job-10", "odd*", "odd*2"]))
    abort_named(lambda manager, rid, abort_all=False: aborts.append(rid), manager, **asked)
    assert aborts == sent


@pytest.mark.parametrize("batch", [False, True])
def test_a_stream_that_is_over_ends_no_later_request_of_its_name(monkeypatch, batch):
    """SGLang's own task, the control, ends it."""
    monkeypatch.setattr(namesakes, "LEFT_S", 0)
    monkeypatch.setattr(tokenizer_manager.asyncio, "sleep", AsyncMock())
    text, name = (["a", "b"], ["x", "y"]) if batch else ("a", "x")
    obj = GenerateReqInput(text=text, rid=name, sampling_params={})
    obj.normalize_batch_and_arguments()
    own = [obj[0], obj[1]] if batch else [obj]
    sglangs_own = tokenizer_manager.TokenizerManager.create_abort_task
    for make, ends_the_namesake in ((partial(abort_left, sglangs_own), False), (sglangs_own, True)):
        gone: list[str] = []
        manager = SimpleNamespace(rid_to_state={}, abort_request=gone.append)
        states = manager.rid_to_state
        states |= {one.rid: SimpleNamespace(obj=one) for one in own}
        asyncio.run(make(manager, obj)())
        assert gone == [one.rid for one in own]  # it was left, and goes
        states["x"] = SimpleNamespace(obj=GenerateReqInput(text="c", rid="x"))
        asyncio.run(make(manager, obj)())
        assert (gone[len(own) :].count("x") == 1) == ends_the_namesake


def test_a_request_does_not_begin_with_the_text_of_an_aborted_namesake():
    """SGLang's own detokenizer, the control, does."""
    tokenizer = client.tokenizer()

    def message(text: str, finished: bool) -> SimpleNamespace:
        """What a scheduler sends of a new request, with the end of its prompt in front."""
        prompt, ids = tokenizer.encode("Look:").ids, tokenizer.encode(text).ids
        return SimpleNamespace(
            rids=["x"], decoded_texts=[""], decode_ids=[array("q", [*prompt, *ids])],
            read_offsets=[len(prompt)],
            finished_reasons=[{"type": "length"} if finished else None], no_stop_trim=[False],
            skip_special_tokens=[True], spaces_between_special_tokens=[True],
            completion_tokens=[len(ids)],
        )  # fmt: skip

    for mended in (True, False):
        manager = object.__new__(DetokenizerManager)
        manager.decode_status, manager.vocab_size = {}, tokenizer.get_vocab_size()
        manager.disable_tokenizer_batch_decode = True
        manager.tokenizer = SimpleNamespace(decode=lambda ids, **_: tokenizer.decode([*ids]))
        said = []
        for sent in (message("the moon", finished=False), message(" is full", finished=True)):
            if mended:
                forget_namesake(manager, sent)
            said += manager._decode_batch_token_id_output(sent)
        assert (said[-1] == " is full") == mended, said


@pytest.mark.parametrize("output", [[], [3, 4]])
@pytest.mark.parametrize(("kind", "more"), [(DeterministicReq, 0), (Req, 1)])  # SGLang's own
def test_what_follows_the_placeholder_of_an_aborted_prompt_is_no_output(kind, more, output):
    req = request(kind)
    req.output_ids.extend(output)
    req.set_finish_with_abort("Aborted by AbortReq.")
    req.output_ids.append(5)
    req.update_finish_state()
    assert req.finished() and len(req.output_ids_through_stop) == len(output) + more


@pytest.mark.parametrize("grammar", [None, object()])  # one that still compiles
@pytest.mark.parametrize("output", [[], [3, 4]])
def test_what_a_request_draws_after_the_service_has_ended_is_no_output(grammar, output):
    req = request()
    req.grammar = grammar
    req.output_ids.extend(output)
    req.withdraw("the audit has found a difference")
    req.output_ids.append(5)
    req.update_finish_state()
    assert req.refused and [*req.output_ids_through_stop] == output
