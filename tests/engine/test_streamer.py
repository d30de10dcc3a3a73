"""When output is sent: around a verification, streams flow evenly. No server."""

from array import array
from collections import deque
from types import SimpleNamespace

import pytest
from sglang.srt.managers.schedule_batch import FINISH_LENGTH, Req
from sglang.srt.managers.scheduler_components.output_streamer import SchedulerOutputStreamer
from sglang.srt.model_executor.forward_batch_info import ForwardMode
from sglang.srt.sampling.sampling_params import SamplingParams

from llm42_sglang.core.config import Config
from llm42_sglang.engine.request import DeterministicReq
from llm42_sglang.engine.streamer import DeterministicOutputStreamer
from llm42_sglang.engine.verifier import Verifier


def request(rid: str, kind=Req, sent: int = 1, unsent: int = 1, finished: bool = False) -> Req:
    extra = {"page_size": 8, "fingerprint": "f"} if kind is DeterministicReq else {}
    req = kind(rid, "", array("q", [0]), SamplingParams(), vocab_size=6, **extra)
    req.output_ids = array("q", [0] * (sent + unsent))
    req.send_token_offset = sent
    req.finished_reason = FINISH_LENGTH(sent + unsent) if finished else None
    return req


@pytest.fixture
def events(monkeypatch) -> list[str]:
    """What happened, in order: a request's id when its output was sent, and what tests add."""
    happened: list[str] = []

    def send(self, reqs: list[Req], *args, is_idle_batch: bool = False) -> None:
        happened.extend(["idle"] if is_idle_batch else [req.rid for req in reqs])

    monkeypatch.setattr(SchedulerOutputStreamer, "_stream_output_generation", send)
    return happened


@pytest.fixture
def streamer() -> DeterministicOutputStreamer:
    unused = ("send_to_detokenizer", "tree_cache", "server_args", "spec_algorithm")
    unused += ("disaggregation_mode", "enable_hicache_storage")
    return DeterministicOutputStreamer(is_generation=True, **dict.fromkeys(unused))


KINDS = {
    "stream": request("stream"),
    "first token": request("first token", sent=0),
    "end": request("end", finished=True),
    "commit": request("commit", DeterministicReq),
    "no news": request("no news", DeterministicReq, unsent=0),
}


def test_only_what_continues_an_ordinary_stream_waits_for_the_end_of_the_block(streamer, events):
    with streamer.evenly():
        streamer.stream_output([*KINDS.values()], return_logprob=False)
        streamer.stream_output([request("next")], return_logprob=False)
        events.append("pass")
    assert events == ["first token", "end", "commit", "pass", "stream", "next"]


def test_outside_of_it_nothing_waits(streamer, events):
    """Negative control, and the block leaves nothing behind."""
    with streamer.evenly():
        pass
    streamer.stream_output([*KINDS.values()], return_logprob=False)
    events.append("pass")
    assert events == ["stream", "first token", "end", "commit", "pass"]


def test_a_rank_without_requests_says_so_once(streamer, events):
    with streamer.evenly():
        streamer._stream_output_generation([], False, is_idle_batch=True)
    assert events == ["idle"]


def test_what_was_kept_is_sent_although_the_pass_fails(streamer, events):
    with pytest.raises(RuntimeError, match="the pass"), streamer.evenly():
        streamer.stream_output([KINDS["stream"]], return_logprob=False)
        raise RuntimeError("the pass")
    assert events == ["stream"]


def test_a_verification_keeps_the_tokens_of_the_step_it_drains(streamer, events, monkeypatch):
    step = SimpleNamespace(reqs=[KINDS["stream"]], forward_mode=ForwardMode.DECODE)
    scheduler = SimpleNamespace(
        output_streamer=streamer,
        result_queue=deque([(step, None)]),
        process_batch_result=lambda batch, result: streamer.stream_output(batch.reqs, False),
    )

    def verify(riders: list) -> list:
        events.append("pass")
        lane.audit.failed = True  # and the block ends
        return []

    lane = SimpleNamespace(audit=SimpleNamespace(failed=False), verify=verify)
    scheduler.end_deterministic_service = lambda batches: events.append("ended")
    verifier = Verifier(scheduler, lane, Config())
    monkeypatch.setattr(verifier, "_riders", lambda batches: ["rider"])
    verifier.between_steps(step, None)
    assert events == ["pass", "ended", "stream"]
