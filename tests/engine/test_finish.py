"""Where a run of committed tokens is cut depends on rollbacks: it must not show. No server."""

from array import array
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sglang.srt.managers.schedule_batch import Req
from sglang.srt.sampling.sampling_params import SamplingParams

from llm42_sglang.engine.grammar import Grammar
from llm42_sglang.engine.request import DeterministicReq

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


def ended(kind, cuts: list[list[int]], grammar_len: int | None = None, **sampling):
    """Reason and output length after these runs of tokens, one after the other."""
    params = SamplingParams(max_new_tokens=9, **sampling)
    params.normalize(Letters())
    extra = {"page_size": 32, "fingerprint": "f"} if kind is DeterministicReq else {}
    req = kind("id", "", array("q", [0]), params, vocab_size=len(LETTERS), **extra)
    req.tokenizer = Letters()
    if grammar_len is not None:
        req.chooser.grammar = Grammar(CountingMatcher(grammar_len))
    for run in cuts:
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
    from llm42_sglang.engine.samples import SENT, expect_samples, next_sample, seed_of_sample

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


@pytest.mark.parametrize("cuts", [[[0, 1, 2, EOS, 3]], [[0], [1, 2, EOS, 3]]])
def test_reasoning_tokens_are_counted_up_to_the_end(cuts):
    """Not the rest of a run behind it: how long that is depends on rollbacks."""
    counted = []
    params = SamplingParams(max_new_tokens=9)
    params.normalize(Letters())
    req = DeterministicReq(
        "id", "", array("q", [0]), params, vocab_size=6, page_size=32, fingerprint="f"
    )
    req.tokenizer = Letters()
    req.count_reasoning = counted.extend
    for run in cuts:
        req.output_ids.extend(run)
        req.update_finish_state(len(run))
    assert counted == [0, 1, 2, EOS]
