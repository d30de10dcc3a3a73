"""What is sent after a step. No server."""

from sglang.srt.managers.scheduler_components.output_streamer import SchedulerOutputStreamer

from llm42_sglang.engine.loop.service import Service
from llm42_sglang.engine.loop.streamer import DeterministicOutputStreamer
from tests.engine.fakes import decoding, end, ordinary


def test_a_step_that_committed_nothing_sends_nothing(monkeypatch):
    sent: list[str] = []

    def send(self, reqs, logprobs, skip_req=None, is_idle_batch=False) -> None:
        sent.extend(req.rid for req in reqs)

    monkeypatch.setattr(SchedulerOutputStreamer, "_stream_output_generation", send)
    unused = ("send_to_detokenizer", "tree_cache", "server_args", "spec_algorithm")
    unused += ("disaggregation_mode", "enable_hicache_storage")
    streamer = DeterministicOutputStreamer(
        is_generation=True, service=Service(), **dict.fromkeys(unused)
    )
    reqs = [ordinary("ordinary"), decoding("commit", output=(0, 0)), decoding("no news")]
    reqs.append(end(decoding("end")))
    for req in reqs:
        req.send_token_offset = 1
    streamer.stream_output(reqs, return_logprob=False)
    assert sent == ["ordinary", "commit", "end"]
