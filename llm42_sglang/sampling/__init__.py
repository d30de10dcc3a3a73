"""Samplers whose draw for a row depends on that row alone.

1. `plan`     what a request asks for
2. `noise`    randomness keyed by (seed, position, token id)
3. `kept`     top-k, top-p, min-p
4. `rows`     the draw
5. `ranking`  the largest entries, and the draw at temperature 0, for many rows at once
6. `adjust`   penalties, mask and bias, before the draw
7. `logprobs` what the model thought, before all of that
"""

from llm42_sglang.sampling.adjust import Adjustments, adjust, bias_pairs
from llm42_sglang.sampling.logprobs import TopLogprobs, logprobs, token_logprobs, top_logprobs
from llm42_sglang.sampling.noise import DEFAULT_SEED, gumbel
from llm42_sglang.sampling.plan import WHOLE_VOCABULARY, Plan
from llm42_sglang.sampling.ranking import NO_TOKEN, greedy
from llm42_sglang.sampling.rows import sample

__all__ = [
    "DEFAULT_SEED",
    "NO_TOKEN",
    "WHOLE_VOCABULARY",
    "Adjustments",
    "Plan",
    "TopLogprobs",
    "adjust",
    "bias_pairs",
    "greedy",
    "gumbel",
    "logprobs",
    "sample",
    "token_logprobs",
    "top_logprobs",
]
