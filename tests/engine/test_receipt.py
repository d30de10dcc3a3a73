"""What a receipt says of a request, and that its reader makes the same hashes. No server."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from sglang.srt.managers.schedule_batch import FINISH_MATCHED_STR, FINISH_MATCHED_TOKEN

from llm42_sglang.core.receipts import output_digest, request_digest
from llm42_sglang.engine.front.samples import expect_samples, next_sample
from llm42_sglang.engine.loop.receipt import receipt_of
from llm42_sglang.frontend.nonce import refuse_nonce
from llm42_sglang.frontend.options import Refused
from llm42_sglang.repro.effective import in_force, seed_in_force
from tests.engine.fakes import decoding, end

DRAWN = {"temperature": 0.7, "sampling_seed": 7}
OTHERS = {  # by option: another value than the default
    "temperature": 0.8,
    "top_p": 0.9,
    "top_k": 3,
    "min_p": 0.1,
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "repetition_penalty": 1.5,
    "logit_bias": {"1": 2.0},
    "max_new_tokens": 98,
    "min_new_tokens": 1,
    "ignore_eos": True,
    "stop": ["x"],
    "stop_token_ids": [3],
    "stop_regex": ["x+"],
    "no_stop_trim": True,
    "regex": "x+",
    "json_schema": "{}",
    "ebnf": "root ::= x",
    "structural_tag": "{}",
    "sampling_seed": 8,
    "custom_params": {"other": 1},
}


def receipt(**sampling) -> dict:
    return receipt_of(end(decoding(**DRAWN | sampling))).as_dict()


@pytest.mark.parametrize("name", OTHERS)
def test_every_option_is_in_the_digest_of_the_request(name):
    """So is a server's default for it: SGLang fills it in before the request comes here."""
    plain, other = receipt(), receipt(**{name: OTHERS[name]})
    assert plain["request_digest"] != other["request_digest"]
    assert plain["output_digest"] == other["output_digest"]
    assert receipt(**{name: OTHERS[name]})["receipt_digest"] == other["receipt_digest"]


def test_the_prompt_and_whether_logprobs_were_asked_for_are_in_it_too():
    asked = end(decoding(**DRAWN))
    asked.return_logprob, asked.logprob.output_token_logprobs_val = True, [-0.5]
    digests = [receipt_of(req).request_digest for req in (end(decoding(**DRAWN)), asked)]
    digests.append(receipt_of(end(decoding(prompt=(0, 0), **DRAWN))).request_digest)
    assert len({*digests}) == 3


def test_how_long_it_waited_and_a_nonce_are_not():
    before, after = receipt(), receipt(custom_params={"nonce": "once", "deterministic": True})
    assert before["request_digest"] == after["request_digest"] and after["nonce"] == "once"
    assert before["receipt_digest"] != after["receipt_digest"]


def test_what_ended_an_answer_is_in_its_digest():
    ends = (FINISH_MATCHED_TOKEN(0), FINISH_MATCHED_STR("0"), FINISH_MATCHED_TOKEN(1))
    digests = {receipt()["output_digest"]}
    for reason in ends:
        req = decoding(**DRAWN)
        req.finished_reason = reason
        digests.add(receipt_of(req).output_digest)
    assert len(digests) == 4
    assert output_digest([0], "length", None) in digests


def test_a_sample_of_n_is_the_request_with_its_seed_and_n_1():
    several = decoding(n=3, **DRAWN).asked
    expect_samples(several)
    digests = []
    for i in range(3):
        sample = next_sample(several)
        alone = {"custom_params": sample.custom_params, "sampling_seed": sample.sampling_seed}
        digests.append(receipt(n=3, **alone)["request_digest"])
        assert digests[i] == receipt(sampling_seed=7 + i)["request_digest"]
    assert len({*digests}) == 3


values = {name: st.sampled_from([other, None]) for name, other in OTHERS.items()} | {
    "temperature": st.sampled_from([0, 1e-7, 0.7, 1, None]),
    "top_k": st.sampled_from([-1, 1 << 30, 1, 5, None]),
    "stop": st.sampled_from(["x", ["x", "y"], [], None]),
    "stop_token_ids": st.sampled_from([[5, 3, 3], [0], [], None]),
    "custom_params": st.sampled_from([{"other": 1, "nonce": "n"}, {}, None]),
    "logit_bias": st.sampled_from([{"1": 2, "0": -0.5}, {}, None]),
    "max_new_tokens": st.sampled_from([1, 50]),
}
GRAMMARS = {"regex", "json_schema", "ebnf", "structural_tag"}


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.fixed_dictionaries({}, optional=values), st.sampled_from(sorted(GRAMMARS)))
def test_a_reader_of_the_request_makes_the_digest_that_the_server_makes(params, grammar):
    """However an option is written, and whatever is left to the server."""
    params = {name: v for name, v in params.items() if name == grammar or name not in GRAMMARS}
    defaults = {"temperature": 1.0, "max_new_tokens": 128}
    told = receipt_of(end(decoding(**defaults | params))).as_dict()
    request = {"input_ids": [0], "sampling_params": params}
    sampling = in_force(request, told)
    seed = seed_in_force(request, told, sampling)
    assert request_digest([0], sampling, seed) == told["request_digest"]


@pytest.mark.parametrize("nonce", [7, "x" * 129, "\ud83d", ["x"], True])
def test_a_nonce_that_no_receipt_could_repeat_is_refused(nonce):
    with pytest.raises(Refused, match="nonce must be a string of at most 128 characters"):
        refuse_nonce({"nonce": nonce}, deterministic=True)
    with pytest.raises(Refused, match="an ordinary answer has no receipt"):
        refuse_nonce({"nonce": "x"}, deterministic=False)
    for good in ({}, None, {"nonce": None}, {"nonce": "é" * 128}):
        refuse_nonce(good, deterministic=True)
