"""When output is sent: around a verification streams are held. No server."""

import pytest
from sglang.srt.managers.schedule_batch import Req
from sglang.srt.managers.scheduler_components.output_streamer import SchedulerOutputStreamer

from llm42_sglang.engine.streamer import DeterministicOutputStreamer
from tests.engine.fakes import FULL, Loop, batch_of, decoding, end, lane, ordinary


def output(req: Req, sent: int = 1) -> Req:
    """So many of its tokens have been sent."""
    req.send_token_offset = sent
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


UNUSED = ("send_to_detokenizer", "tree_cache", "server_args", "spec_algorithm")
UNUSED += ("disaggregation_mode", "enable_hicache_storage")
FIELDS = {"is_generation": True, **dict.fromkeys(UNUSED)}


@pytest.fixture
def streamer() -> DeterministicOutputStreamer:
    return DeterministicOutputStreamer(**FIELDS)


STREAM = output(ordinary("stream"))
OTHERS = [
    output(ordinary("first token"), sent=0),
    end(output(ordinary("end"))),
    output(decoding("commit", output=(0, 0))),
    output(decoding("no news")),
]


def test_only_what_continues_an_ordinary_stream_is_held(streamer, events):
    streamer.hold()
    streamer.stream_output([STREAM, *OTHERS], return_logprob=False)
    streamer.hold()  # once more changes nothing
    streamer._stream_output_generation([], False, is_idle_batch=True)
    again = output(ordinary("chunked again"))
    streamer.stream_output([again, STREAM], return_logprob=True, skip_req=again)
    events.append("pass")
    streamer.release()
    at_once = ["first token", "end", "commit", "idle"]
    assert events == [*at_once, "pass", "stream", "stream with logprobs"]


def test_outside_of_it_nothing_waits(streamer, events):
    """Negative control, and holding leaves nothing behind."""
    streamer.hold()
    streamer.release()
    streamer.release()
    streamer.stream_output([STREAM, *OTHERS], return_logprob=False)
    events.append("pass")
    assert events == ["stream", "first token", "end", "commit", "pass"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("audit_fails", [False, True])
def test_where_forwards_block_a_pass_keeps_the_tokens_of_the_step_it_drains(
    streamer, events, device, audit_fails
):
    """A stream's decode step is in flight, beside a request that is blocked by its full page."""
    blocked = output(decoding("due", candidates=FULL + 16))
    loop = Loop(STREAM, blocked, lane=lane(8), device=device, streamer=streamer)
    loop.events = events
    loop.process_batch_result = lambda batch, result: streamer.stream_output(batch.reqs, False)
    loop.result_queue.append((batch_of(STREAM), None))

    def run_pass(what: str) -> None:
        events.append(what)
        loop.verifier.lane.audit.failed = audit_fails

    loop.verifier.lane.forward.happened = run_pass
    loop.before_step()
    passed = ["pass", "ended" if audit_fails else "commit due"]
    assert events == ([*passed, "stream"] if device == "cpu" else ["stream", *passed])
