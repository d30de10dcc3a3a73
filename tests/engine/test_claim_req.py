"""What SGLang sees of a request with a claim. No server."""

import pytest
import torch

from llm42_sglang.engine.loop.claim import ClaimReq
from llm42_sglang.engine.loop.finish import nothing_left
from llm42_sglang.engine.loop.request import DeterministicReq
from llm42_sglang.engine.loop.results import DeterministicResultProcessor
from tests.engine.fakes import request

PROMPT = range(5)


def claiming(claim: list[int], most: int, **sampling) -> ClaimReq:
    """As it is when SGLang is about to prefill it."""
    custom = {"deterministic": True, "claim": claim}
    sampling = {"custom_params": custom, "max_new_tokens": most, "ignore_eos": True, **sampling}
    req = request(ClaimReq, "id", PROMPT, **sampling)
    req.refresh_fill_ids()
    return req


@pytest.mark.parametrize("claimed", [1, 9, 10, 11, 30])
def test_it_needs_no_more_room_than_its_answer(claimed):
    """A pool that has room for prompt and answer must not keep it waiting for ever."""
    req = claiming([1] * claimed, most=10)
    prefilled = len(req.full_untruncated_fill_ids) - len(PROMPT)
    assert prefilled == min(claimed, 9)
    assert prefilled + req.sampling_params.max_new_tokens <= 10


def test_a_prompt_that_is_half_done_stays_as_long_as_it_is():
    req = claiming([1] * 8, most=10)
    req.to_finish = nothing_left()
    req.refresh_fill_ids()
    assert len(req.full_untruncated_fill_ids) == len(PROMPT)  # nothing has run
    req = claiming([1] * 8, most=10)
    req.begin_prefill()
    req.to_finish = nothing_left()
    req.refresh_fill_ids()
    assert len(req.full_untruncated_fill_ids) == len(PROMPT) + 8


def rows(*tokens: int) -> torch.Tensor:
    """Logits that give these tokens: [n, vocab]."""
    return torch.nn.functional.one_hot(torch.tensor(tokens), 6).float()


@pytest.mark.parametrize(
    ("claim", "drawn", "refuted", "output"),
    [
        ([3, 4, 5, 1], [3, 4, 5, 1], None, [3, 4, 5, 1]),  # ends by its length
        ([3, 4, 5], [3, 4, 5, 1], (3, None, 1), [3, 4, 5, 1]),
        ([3, 4, 5, 2], [3, 4, 5, 1], (3, 2, 1), [3, 4, 5, 1]),
        ([3, 4, 5, 1, 2], [3, 4, 5, 1], (4, 2, None), [3, 4, 5, 1]),
        ([3, 0, 5, 1], [3, 4], (1, 0, 4), [3, 4]),
    ],
)
def test_the_answer_is_what_the_rows_draw(claim, drawn, refuted, output):
    req = claiming(claim, most=4)
    req.begin_prefill()
    req.read_prompt(rows(0, 0, 0, 0, *drawn[:2]), 0)  # a page that ends inside the claim
    req.read_prompt(rows(*drawn[1:], 0, 0), 5)  # and comes again
    req.extend_end = len(req.full_untruncated_fill_ids)
    assert req.conclude()
    assert (req.refuted, [*req.output_ids]) == (refuted, output)
    if refuted and None not in refuted:
        assert req.refutation()["margin"] == 1.0


def test_a_claim_that_begins_again_has_forgotten_everything():
    req = claiming([3, 4, 5, 1], most=4)
    req.return_logprob = True
    req.begin_prefill()
    for _ in range(2):
        req.read_prompt(rows(0, 0, 0, 0, 3, 4), 0)
        assert len(req._reader._committed) == 2
        req.reset_for_retract()
        assert not req._reader._committed and not req.begun


@pytest.mark.parametrize(("kind", "handed"), [(DeterministicReq, 1), (ClaimReq, 2)])
def test_a_prompt_hands_over_the_logprob_of_its_own_token(kind, handed):
    """When it is prefilled again after a retraction, a step may be under way, whose token never
    comes: it may be retracted again. Only a claim ends with its prompt."""
    req = request(kind, "id", PROMPT)
    req.return_logprob = True
    req.logprob_start_len = -1
    req.logprob.output_token_logprobs_val, req.logprob.output_token_logprobs_idx = [], []
    req.output_ids.extend([3, 4])
    req._reader.read(rows(4, 5), [4, 5])  # the prompt's own, and that of the step
    DeterministicResultProcessor._apply_prefill_logprobs(None, req=req, logprob_pt=0)
    assert len(req.logprob.output_token_logprobs_val) == handed
