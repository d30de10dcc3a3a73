"""When output is sent: around a verification streams are held. No server."""

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

    def send(self, reqs: list[Req], logprobs: bool, skip_req=None, is_idle_batch=False) -> None:
        sent = [req.rid + " with logprobs" * logprobs for req in reqs if req is not skip_req]
        happened.extend(["idle"] if is_idle_batch else sent)

    monkeypatch.setattr(SchedulerOutputStreamer, "_stream_output_generation", send)
    return happened


@pytest.fixture
def made_of() -> dict:
    unused = ("send_to_detokenizer", "tree_cache", "server_args", "spec_algorithm")
    unused += ("disaggregation_mode", "enable_hicache_storage")
    return {"is_generation": True, **dict.fromkeys(unused)}


@pytest.fixture
def streamer(made_of) -> DeterministicOutputStreamer:
    return DeterministicOutputStreamer(**made_of)


KINDS = {
    "stream": request("stream"),
    "first token": request("first token", sent=0),
    "end": request("end", finished=True),
    "commit": request("commit", DeterministicReq),
    "no news": request("no news", DeterministicReq, unsent=0),
}


def test_only_what_continues_an_ordinary_stream_is_held(streamer, events):
    streamer.hold()
    streamer.stream_output([*KINDS.values()], return_logprob=False)
    streamer.hold()  # once more changes nothing
    streamer.stream_output([request("next")], return_logprob=False)
    events.append("pass")
    streamer.release()
    assert events == ["first token", "end", "commit", "pass", "stream", "next"]


def test_outside_of_it_nothing_waits(streamer, events):
    """Negative control, and holding leaves nothing behind."""
    streamer.hold()
    streamer.release()
    streamer.release()
    streamer.stream_output([*KINDS.values()], return_logprob=False)
    events.append("pass")
    assert events == ["stream", "first token", "end", "commit", "pass"]


def test_it_is_sent_as_it_would_have_been(streamer, events):
    chunked = request("chunked again")
    streamer.hold()
    streamer.stream_output([KINDS["stream"], chunked], return_logprob=True, skip_req=chunked)
    streamer.release()
    assert events == ["stream with logprobs"]


def test_a_rank_without_requests_says_so_once(streamer, events):
    streamer.hold()
    streamer._stream_output_generation([], False, is_idle_batch=True)
    streamer.release()
    assert events == ["idle"]


def test_sglang_still_refuses_its_rust_server(made_of):
    with pytest.raises(ValueError, match="Rust"):
        DeterministicOutputStreamer(**made_of, rust_server=object())


def verifier_of(streamer, device: str, riders: list, boarders: list, lane=None) -> Verifier:
    """One stream's decode step is in flight; who is asked for next, and what the lane makes of it,
    is given."""
    step = SimpleNamespace(reqs=[KINDS["stream"]], forward_mode=ForwardMode.DECODE)
    scheduler = SimpleNamespace(
        device=device,
        output_streamer=streamer,
        result_queue=deque([(step, None)]),
        process_batch_result=lambda batch, result: streamer.stream_output(batch.reqs, False),
        running_batch=step,
    )
    made = SimpleNamespace(
        audit=SimpleNamespace(failed=False),
        forward=SimpleNamespace(
            ranks=SimpleNamespace(require_agreement=lambda: None), width_for=lambda pages: pages
        ),
        **(lane or {}),
    )
    verifier = Verifier(scheduler, made, Config())
    # Asked once whether results are wanted, then until nobody is left.
    asked = deque([riders, riders, []])
    verifier._riders = lambda batches: asked.popleft()
    verifier._boarders = lambda batches: boarders
    return verifier


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("audit_fails", [False, True])
def test_where_forwards_block_a_pass_keeps_the_tokens_of_the_step_it_drains(
    streamer, events, monkeypatch, device, audit_fails
):
    def verify(riders: list) -> list:
        events.append("pass")
        verifier.lane.audit.failed = audit_fails
        return []

    verifier = verifier_of(streamer, device, ["rider"], [], {"verify": verify})
    verifier.scheduler.end_deterministic_service = lambda batches: events.append("ended")
    monkeypatch.setattr(verifier, "_settle", lambda batches, outcomes: events.append("settled"))
    verifier.between_steps(verifier.scheduler.running_batch, None)
    passed = ["pass", "ended" if audit_fails else "settled"]
    assert events == ([*passed, "stream"] if device == "cpu" else ["stream", *passed])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("comes", ["a step", "nothing"])
def test_where_forwards_block_tokens_seen_early_wait_for_the_next_forward(
    streamer, events, device, comes
):
    """Whoever sees them once a forward later leaves two of them in one gap."""
    verifier = verifier_of(streamer, device, [], ["boarder"])
    step = verifier.scheduler.running_batch
    verifier.between_steps(step, None)
    if comes == "a step":
        verifier.planned(step)
        events.append("forward")
        verifier.launched(step)
    else:
        verifier.planned(None)
    forward = ["forward"] * (comes == "a step")
    assert events == ([*forward, "stream"] if device == "cpu" else ["stream", *forward])
