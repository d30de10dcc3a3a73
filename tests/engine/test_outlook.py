"""How a request stands to the lane, and who waits for whom. No server."""

from array import array
from types import SimpleNamespace

import pytest
from sglang.srt.managers.schedule_batch import Req
from sglang.srt.managers.schedule_policy import AddReqResult, PrefillAdder
from sglang.srt.sampling.sampling_params import SamplingParams

from llm42_sglang.core.track import Track
from llm42_sglang.engine.admission import HomogeneousPrefillAdder
from llm42_sglang.engine.request import DeterministicReq
from llm42_sglang.engine.verifier import Verifier

T = 8


def request(kind=DeterministicReq, prompt_len: int = 1, max_new_tokens: int = 9):
    params = SamplingParams(max_new_tokens=max_new_tokens)
    params.normalize(None)
    extra = {"page_size": T, "fingerprint": "f"} if kind is DeterministicReq else {}
    return kind("id", "", array("q", [0] * prompt_len), params, vocab_size=6, **extra)


@pytest.mark.parametrize("max_new_tokens", range(2, 2 * T + 2))
@pytest.mark.parametrize("prompt_len", range(1, T + 2))
def test_past_its_length_limit_a_request_stays_in_the_pages_it_may_own(prompt_len, max_new_tokens):
    req = request(prompt_len=prompt_len, max_new_tokens=max_new_tokens)
    req.track = Track(T, prompt_len + 1, canonical_len=prompt_len, decoding=True)
    rows = prompt_len + max_new_tokens - 1  # ordinary decode never writes the last token's row
    pages = -(-rows // T)
    for in_flight in range(max_new_tokens + T):
        tokens = prompt_len + 1 + in_flight
        seen = req.outlook(in_flight, step=in_flight)
        assert seen.at_limit == ((tokens - 1) // T >= pages)
        assert seen.suspected == (tokens - prompt_len >= max_new_tokens)
        full = tokens >= T * (prompt_len // T + 1)
        assert seen.due == (full or seen.suspected)


def pages_taken(running: list[Req], prompts: list[int], group: int = 2) -> list[bool]:
    """Which of these prompts' pages still fit into the batch."""
    adder = object.__new__(HomogeneousPrefillAdder)
    adder.group, adder.page_size, adder.rem_chunk_tokens = group, T, 100 * T
    adder.running_batch = SimpleNamespace(reqs=running)
    adder.can_run_list = []
    fits = []
    for length in prompts:
        fits.append(adder._keep_to_one_pass())
        adder.can_run_list.append(SimpleNamespace(prefix_len=0, extend_end=length))
    return fits


def test_only_ordinary_requests_that_decode_keep_prefill_to_one_pass():
    prompts = [T, T, T]
    assert pages_taken([], prompts) == [True, True, True]
    assert pages_taken([request()], prompts) == [True, True, True]
    assert pages_taken([request(), request(Req)], prompts) == [True, True, False]


@pytest.mark.parametrize("first", [DeterministicReq, Req])
def test_a_prefill_batch_takes_everybody_of_the_first_ones_kind(first, monkeypatch):
    def admit(adder, req):
        adder.can_run_list.append(req)
        return AddReqResult.CONTINUE

    monkeypatch.setattr(PrefillAdder, "add_one_req", admit)
    monkeypatch.setattr(DeterministicReq, "take_grammar", lambda req: None)
    adder = object.__new__(HomogeneousPrefillAdder)
    adder.running_batch, adder.can_run_list = SimpleNamespace(reqs=[]), []
    second = Req if first is DeterministicReq else DeterministicReq
    queue = [request(kind) for kind in (first, second, first, second, second)]
    # SGLang ends the batch at any other answer.
    assert {adder.add_one_req(req) for req in queue} == {AddReqResult.CONTINUE}
    assert adder.can_run_list == [queue[0], queue[2]]


@pytest.mark.parametrize(
    ("passes", "prefilled", "following", "owed"),
    [
        pytest.param(0, None, DeterministicReq, False, id="a step has just been"),
        pytest.param(1, None, Req, True, id="a prompt after a pass"),
        pytest.param(0, Req, Req, False, id="SGLang's prompts among themselves"),
        pytest.param(0, Req, DeterministicReq, True, id="a pass after a prompt"),
        pytest.param(0, DeterministicReq, Req, True, id="a prompt after a prompt's pass"),
        pytest.param(0, DeterministicReq, DeterministicReq, True, id="one pass, another one"),
        pytest.param(1, Req, Req, False, id="a pass, then ordinary prompts"),
    ],
)
def test_a_step_is_owed_between_a_pass_and_a_prompt(passes, prefilled, following, owed):
    verifier = object.__new__(Verifier)
    verifier._passes, verifier._prefilled = passes, prefilled and request(prefilled)
    assert verifier.owes_decode(request(following)) == owed
    verifier._steps = 0
    verifier.decode_planned()
    assert not verifier.owes_decode(request(following))
