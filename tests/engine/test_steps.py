"""Canonical steps in the loop: who commits what it draws, and what that costs. No server."""

import sys
from types import SimpleNamespace

import pytest
import torch

from llm42_sglang.engine.loop.fastpath import drawing, sample_own_rows
from llm42_sglang.engine.loop.request import DeterministicReq
from tests.engine.fakes import FULL, Loop, T, decoding, end, lane, ordinary

TIED = torch.tensor([[0.0, 3.0, 3.0, 1.0, 3.0, 0.0]])


def loop_of(*reqs: DeterministicReq, step_sizes=(2, 3, 4)) -> Loop:
    return Loop(*reqs, lane=lane(8, step_sizes=step_sizes))


def steps(loop: Loop, *tokens: int) -> list[list[int]]:
    """A decode step of everybody that draws these; per request what it commits."""
    loop.before_step()
    loop.verifier.planned(loop.running_batch)
    loop.verifier.launching(loop.running_batch)
    return [req.seen(token) for req, token in zip(loop.running_batch.reqs, tokens, strict=True)]


def test_a_step_of_a_certified_size_commits_and_another_proposes():
    few, many = loop_of(decoding("a")), loop_of(decoding("a"), decoding("b"))
    assert steps(few, 3) == [[]] and few.running_batch.reqs[0].track.candidates == (3,)
    assert steps(many, 3, 4) == [[3], [4]]
    assert all(req.track.canonical_steps == 1 for req in many.running_batch.reqs)
    assert many.events == []  # no pass, nothing drained


def test_candidates_are_verified_first_and_then_the_request_goes_on_canonically():
    req = decoding("a", candidates=2)
    loop = loop_of(req, decoding("b"))
    assert steps(loop, 0, 5) == [[0], [5]]
    assert loop.events == ["pass", "commit a"]
    assert (req.track.verify_passes, req.track.canonical_steps) == (1, 1)


def test_over_a_step_in_flight_that_is_not_canonical_none_is():
    req = decoding("a")
    for certified in (True, False, True):
        req.launch(certified)
    assert [*req.in_flight] == [True, False, False]
    assert [req.seen(token) for token in (1, 2, 3)] == [[1], [], []]
    assert req.track.candidates == (2, 3)


def test_a_full_page_is_no_reason_for_a_pass_where_steps_are_canonical():
    loop = loop_of(decoding("a"), decoding("b"))
    for _ in range(3 * T):
        steps(loop, 0, 0)
    assert loop.events == []
    assert steps(loop_of(decoding("a", candidates=FULL), step_sizes=()), 0) == [[]]


@pytest.mark.parametrize("going", [end, lambda req: setattr(req, "is_retracted", True) or req])
def test_what_comes_in_of_a_request_that_has_left_is_nothing(going):
    req = decoding()
    req.launch(certified=True)
    going(req)
    assert req.seen(7) == [] and not req.in_flight


def drawn(req: DeterministicReq, row: torch.Tensor, certified: bool) -> int:
    """What the step's row of this request becomes, where SGLang's sampler picks the last maximum
    and an ordinary neighbour has the row before it."""
    reqs = [ordinary(), req]
    req.launch(certified)
    output = SimpleNamespace(next_token_logits=torch.cat([TIED, row]))
    with drawing(reqs):
        picked = sample_own_rows(lambda *args: torch.tensor([5, 4]), None, output, None)
    assert picked[0] == 5  # the neighbour's is SGLang's
    return int(picked[1])


def test_a_canonical_row_is_drawn_by_our_sampler_ties_included():
    assert drawn(decoding(), TIED, certified=True) == 1
    assert drawn(decoding(), TIED, certified=False) == 4  # a proposal; a pass will decide


@pytest.mark.parametrize("options", [{}, {"logit_bias": {"1": 0.5}}])
def test_a_row_without_a_token_left_commits_nothing(options):
    req = decoding(**options)
    assert drawn(req, torch.full((1, 6), float("-inf")), certified=True) == 0
    assert req.seen(0) == [] and req.track.candidates == (0,)


def test_logprobs_of_a_canonical_row_are_those_of_the_row():
    req = decoding()
    req.return_logprob, target = True, req.logprob
    target.output_token_logprobs_val, target.output_token_logprobs_idx = [], []
    assert drawn(req, TIED, certified=True) == 1
    req.logprobs.hand_over(len(req.seen(1)))
    assert req.logprob.output_token_logprobs_idx[-1] == 1
    expected = torch.log_softmax(TIED[0], dim=-1)[1].item()
    assert req.logprob.output_token_logprobs_val[-1] == pytest.approx(expected)


def calls_of_a_step(requests: int) -> int:
    """Python functions that are called between two steps and for the results of one."""
    loop = loop_of(*(decoding(str(i)) for i in range(requests)), step_sizes=(requests,))
    steps(loop, *[0] * requests)
    count = 0

    def profile(frame, event, argument) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        steps(loop, *[0] * requests)
    finally:
        sys.setprofile(None)
    return count


def test_the_work_of_a_step_grows_with_its_requests_and_no_faster():
    few, many = calls_of_a_step(64), calls_of_a_step(256)
    assert many <= 4.2 * few
    assert many < 60 * 256  # each request is looked at once, settled, and moved by one event
