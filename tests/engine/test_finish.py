"""Where a run of committed tokens is cut depends on rollbacks: it must not show. No server."""

from array import array
from dataclasses import fields
from itertools import pairwise
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sglang.srt.managers.schedule_batch import Req
from sglang.srt.sampling.sampling_params import SamplingParams

from llm42_sglang.engine.loop.grammar import Grammar
from llm42_sglang.engine.loop.request import DeterministicReq
from llm42_sglang.engine.loop.results import DeterministicResultProcessor

LETTERS = "abcdef"
EOS = 5


class Letters:
    """A tokenizer: token i is the i-th letter."""

    eos_token_id = EOS
    additional_stop_token_ids = None

    def decode(self, ids) -> str:
        return "".join(LETTERS[i] for i in ids)

    def encode(self, text, add_special_tokens=False) -> list[int]:
        return [LETTERS.index(c) for c in text]


class CountingMatcher:
    """A grammar that is complete after `length` tokens."""

    def __init__(self, length: int):
        self.left = length

    def is_terminated(self) -> bool:
        return self.left == 0

    def accept_token(self, token: int) -> None:
        self.left -= 1

    def rollback(self, steps: int) -> None:
        self.left += steps


def request(kind, **sampling) -> Req:
    """One that has made no token yet."""
    params = SamplingParams(max_new_tokens=9, **sampling)
    params.normalize(Letters())
    extra = {"page_size": 32, "fingerprint": "f"} if kind is DeterministicReq else {}
    req = kind("id", "", array("q", [0]), params, vocab_size=len(LETTERS), **extra)
    req.tokenizer = Letters()
    return req


def a_processor() -> DeterministicResultProcessor:
    """Nothing behind it is real: releasing KV, sending output, counting."""
    parts = {part.name: MagicMock() for part in fields(DeterministicResultProcessor)}
    processor = DeterministicResultProcessor(**parts | {"enable_overlap": False})
    processor.model_config.self_opened_think_start_ids = None
    processor.metrics_reporter.num_generated_tokens = 0
    return processor


@pytest.fixture(autouse=True, scope="module")
def no_server():
    """Nothing is released, and metrics are on."""
    module = "sglang.srt.managers.scheduler_components.batch_result_processor"
    name = "_handle_finish_state_updated_req"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DeterministicResultProcessor, name, lambda *args: None)
        patch.setattr(f"{module}.get_observability", lambda: SimpleNamespace(enable_metrics=True))
        yield


def ended(kind, cuts: list[list[int]], grammar_len: int | None = None, **sampling):
    """Reason and output after these runs of tokens, one after the other."""
    req, processor = request(kind, **sampling), a_processor()
    if grammar_len is not None:
        req.chooser.grammar = Grammar(CountingMatcher(grammar_len))
    for run in cuts:
        if kind is DeterministicReq:
            processor.commit([req], [run])
        else:
            req.output_ids.extend(run)
            req.update_finish_state(len(run))
        if req.finished():
            return req.finished_reason.to_json(), list(req.output_ids_through_stop)
    return None, list(req.output_ids)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, EOS), min_size=1, max_size=14),
    st.sets(st.integers(1, 13)),
    st.sampled_from(
        [
            {},
            {"stop": ["ab"]},
            {"stop": ["cab", "b"], "stop_regex": "d+e"},
            {"stop_token_ids": [2], "ignore_eos": True},
        ]
    ),
    st.sampled_from([None, 1, 4]),
)
def test_cuts_do_not_show(tokens, cuts, sampling, grammar_len):
    edges = [0, *sorted(c for c in cuts if c < len(tokens)), len(tokens)]
    runs = [tokens[a:b] for a, b in pairwise(edges)]
    singles = [[token] for token in tokens]
    cut = ended(DeterministicReq, runs, grammar_len, **sampling)
    assert cut == ended(DeterministicReq, singles, grammar_len, **sampling)
    if grammar_len is None:  # one at a time, SGLang's own request says the same
        assert cut == ended(Req, singles, **sampling)


def test_sglangs_own_request_shows_the_cut():
    """Negative control: EOS, then a stop string, in one run or in two."""
    tokens = [0, EOS, 0, 1]
    one_run = ended(Req, [tokens], stop=["ab"])
    assert one_run != ended(Req, [[token] for token in tokens], stop=["ab"])


@pytest.mark.parametrize("candidates", [[1], [1, 2, 3], [1, 2, 3, 4, 5]])
def test_a_grammar_forgets_candidates(candidates):
    matcher = CountingMatcher(4)
    grammar = Grammar(matcher)
    grammar.commit(0)
    with grammar.lookahead() as step:
        assert all(map(step, candidates))
        assert grammar.complete == (len(candidates) >= 3)
    assert matcher.left == 3 and not grammar.complete


def test_samples_are_numbered_and_forgotten():
    from llm42_sglang.core.seeds import seed_of_sample
    from llm42_sglang.engine.front.samples import SENT, expect_samples, next_sample

    params = SamplingParams(n=3, sampling_seed=2**63 - 2, custom_params={SENT: [7], "mine": 1})
    expect_samples(params)
    warm_up = params.__copy__()
    warm_up.max_new_tokens = 0
    sent = [next_sample(p) for p in (warm_up, params, params, params)]
    seeds = [sample.sampling_seed for sample in sent[1:]]
    assert seeds == [2**63 - 2, 2**63 - 1, -(2**63)]
    assert all(sample.custom_params == {"mine": 1} for sample in sent)
    assert seed_of_sample(None, 1) == 43
    single = SamplingParams(sampling_seed=1, custom_params={SENT: 5})
    expect_samples(single)
    assert single.custom_params == {} and next_sample(single) is single


def test_a_row_that_allows_nothing_ends_the_request_where_it_stands():
    from llm42_sglang.sampling import NO_TOKEN

    kind, tokens = ended(DeterministicReq, [[0, 1, NO_TOKEN]])
    assert tokens == [0, 1]
    assert kind["status_code"] == 400 and "logit_bias" in kind["message"]
    stopped = ended(DeterministicReq, [[0, 1, NO_TOKEN]], stop=["b"])
    assert stopped[0]["type"] == "stop"  # what comes first ends it


@pytest.mark.parametrize("cuts", [[[0, 1, 2, EOS, 3]], [[0], [1, 2, EOS, 3]], [[0, 1, 2, EOS]]])
def test_nothing_behind_the_end_is_handed_over(cuts):
    """Neither counted as reasoning nor sent, and an empty run is a step without a token."""
    req, processor = request(DeterministicReq), a_processor()
    for run in cuts:
        processor.commit([req], [run])
    assert list(req.output_ids) == [0, 1, 2, EOS] and req.finished()
    steps = processor.output_streamer.stream_output.call_count
    assert steps == processor.metrics_reporter.num_generated_tokens == 4
    processor.commit([req], [[]])
    assert processor.output_streamer.stream_output.call_count == 5


def test_a_commit_is_no_forward():
    """Neither for the interval of SGLang's log lines nor for its count of passes."""
    processor = a_processor()
    processor.metrics_reporter.forward_ct_decode = 39
    processor.commit([request(DeterministicReq), request(DeterministicReq)], [[0, 1, 2], [0]])
    assert processor.metrics_reporter.forward_ct_decode == 39
    assert processor.metrics_reporter.num_generated_tokens == 4
    processor.metrics_collector.increment_decode_cuda_graph_pass.assert_not_called()


def test_logprobs_are_handed_over_with_their_tokens():
    req, processor, seen = request(DeterministicReq), a_processor(), []
    req.return_logprob = True
    req.logprobs.read(torch.zeros(3, len(LETTERS)), [0, 1, 2])
    values = req.logprob.output_token_logprobs_val = []
    req.logprob.output_token_logprobs_idx = []
    processor.output_streamer.stream_output = lambda *_: seen.append(len(values))
    processor.commit([req], [[0, 1, 2]])
    assert seen == [1, 2, 3]
