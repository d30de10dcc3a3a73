"""A row without a token to draw ends nobody else's request."""

import pytest
import torch

from llm42_sglang.engine.loop.drawable import draw_from_something


def draw(sampler, probs: torch.Tensor, sampling_info) -> torch.Tensor:
    return torch.multinomial(probs, 1)


@pytest.mark.parametrize("lost", [float("nan"), 0.0])
def test_a_lost_row_draws_token_0_and_the_others_draw_theirs(lost):
    """Whatever lost it: no grammar or bias needs to be there."""
    probs = torch.tensor([[0.0, 0.0, 1.0], [lost] * 3])
    with pytest.raises(RuntimeError):
        draw(None, probs, None)
    assert draw_from_something(draw, None, probs, None).tolist() == [[2], [0]]
