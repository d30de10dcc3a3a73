"""What is sent after a step. No server."""

import pytest
from sglang.srt.managers.scheduler_components.output_streamer import SchedulerOutputStreamer

from llm42_sglang.engine.loop.streamer import DeterministicOutputStreamer
from llm42_sglang.engine.service import Service
from tests.engine.fakes import decoding, end, ordinary


@pytest.fixture
def sent(monkeypatch) -> list[str]:
    """Names of requests whose output SGLang sends."""
    names: list[str] = []

    def send(self, reqs, logprobs, skip_req=None, is_idle_batch=False) -> None:
        names.extend(req.rid for req in reqs)

    monkeypatch.setattr(SchedulerOutputStreamer, "_stream_output_generation", send)
    return names


def streamer_of(service: Service) -> DeterministicOutputStreamer:
    unused = ("send_to_detokenizer", "tree_cache", "server_args", "spec_algorithm")
    unused += ("disaggregation_mode", "enable_hicache_storage")
    return DeterministicOutputStreamer(is_generation=True, service=service, **dict.fromkeys(unused))


def test_a_step_that_committed_nothing_sends_nothing(sent):
    reqs = [ordinary("ordinary"), decoding("commit", output=(0, 0)), decoding("no news")]
    reqs.append(end(decoding("end")))
    for req in reqs:
        req.send_token_offset = 1
    streamer_of(Service()).stream_output(reqs, return_logprob=False)
    assert sent == ["ordinary", "commit", "end"]


@pytest.mark.parametrize("live", [True, False])
def test_after_a_failed_audit_nobody_gets_an_answer_that_is_not_sent_yet(sent, live):
    """Whoever ended earlier in the same step, or with its prompt, has no other guard."""
    ended, gone, goes_on = end(decoding("ended")), end(decoding("gone")), decoding("goes on")
    gone.finished_output = True
    stranger, service = end(ordinary()), Service()
    if not live:
        service.end()
    reqs = [ended, gone, goes_on, stranger]
    for req in reqs:
        req.send_token_offset = 1
    streamer_of(service).stream_output(reqs, return_logprob=False)
    assert ended.refused == (not live) and "ended" in sent
    assert not gone.refused and not goes_on.finished()
    assert getattr(stranger.finished_reason, "status_code", None) is None
