"""An ordinary row that has no token left draws token 0.

A grammar or a bias may forbid all tokens, or a number may overflow. Then the row's probabilities
are NaN, and torch raises for the whole batch, which ends stock SGLang. Here a grammar refuses
token 0, and SGLang ends that request alone.
"""

from typing import Any

import torch

from llm42_sglang.engine.hooks import around


@around(
    "sglang.srt.layers.sampler.Sampler._sample_from_probs",
    "draw from a row that has no token left",
)
def draw_from_something(
    original, sampler, probs: torch.Tensor, sampling_info, *args, **kwargs
) -> Any:
    """probs: [batch, vocabulary], changed in place."""
    lost = ~(probs.sum(-1) > 0)  # [batch]; NaN is not above 0
    probs.masked_fill_(lost[:, None], 0)
    probs[:, 0] += lost
    return original(sampler, probs, sampling_info, *args, **kwargs)
