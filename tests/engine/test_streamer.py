"""When output is sent: around a verification streams are held. No server.

That logprobs of held tokens arrive is seen on every server: `client.ordinary_traffic`.
"""

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
        happened.extend(req.rid for req in reqs)

    monkeypatch.setattr(SchedulerOutputStreamer, "_stream_output_generation", send)
    return happened


@pytest.fixture
def streamer() -> DeterministicOutputStreamer:
    unused = ("send_to_detokenizer", "tree_cache", "server_args", "spec_algorithm")
    unused += ("disaggregation_mode", "enable_hicache_storage")
    return DeterministicOutputStreamer(is_generation=True, **dict.fromkeys(unused))


STREAM = output(ordinary("stream"))
OTHERS = [
    output(ordinary("first token"), sent=0),
    end(output(ordinary("end"))),
    output(decoding("commit", output=(0, 0))),
    output(decoding("no news")),
]
AT_ONCE = ["first token", "end", "commit"]


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (True, [*AT_ONCE, "pass", "stream"]),
        (False, ["stream", *AT_ONCE, "pass"]),  # the control; and holding leaves nothing behind
    ],
)
def test_only_what_continues_an_ordinary_stream_is_held(streamer, events, held, expected):
    streamer.hold()
    if not held:
        streamer.release()
    streamer.stream_output([STREAM, *OTHERS], return_logprob=False)
    events.append("pass")
    streamer.release()
    assert events == expected


def loop_of(streamer, events: list[str], device: str, candidates: int) -> Loop:
    """A stream's decode step is in flight, beside a request whose page is full."""
    req = output(decoding("due", candidates))
    loop = Loop(STREAM, req, lane=lane(8), device=device, streamer=streamer)
    loop.events, loop.verifier.lane.forward.happened = events, events.append
    loop.process_batch_result = lambda batch, result: streamer.stream_output(batch.reqs, False)
    loop.result_queue.append((batch_of(STREAM), None))
    return loop


@pytest.mark.parametrize(
    ("device", "expected"),
    [("cpu", ["pass", "commit due", "stream"]), ("cuda", ["stream", "pass", "commit due"])],
)
def test_where_forwards_block_a_pass_keeps_the_tokens_of_the_step_it_drains(
    streamer, events, device, expected
):
    loop_of(streamer, events, device, candidates=FULL + 16).before_step()  # blocked
    assert events == expected


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("forward", [["forward"], []])
def test_where_forwards_block_tokens_seen_early_wait_for_the_next_forward(
    streamer, events, device, forward
):
    """Whoever sees them once a forward later leaves two of them in one gap."""
    loop = loop_of(streamer, events, device, candidates=FULL + 1)  # it rides in the next step
    step = loop.running_batch
    loop.before_step()
    loop.verifier.planned(step if forward else None)
    if forward:
        events.extend(forward)
        loop.verifier.launched(step)
    assert events == ([*forward, "stream"] if device == "cpu" else ["stream", *forward])
