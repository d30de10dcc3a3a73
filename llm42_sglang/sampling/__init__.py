"""The sampler: the token drawn from a row of logits depends on that row alone.

1. `plan`     the sampling parameters of one request
2. `noise`    random numbers, as a function of seed, position and token id
3. `kept`     which tokens top-k, top-p and min-p leave in the draw
4. `rows`     the draw from one row
5. `ranking`  the largest entries of a row, and the greedy choice for many rows at once
6. `adjust`   penalties, grammar mask and bias, which change a row before the draw
7. `logprobs` the log probabilities of a row as the model gave it
"""

from llm42_sglang.sampling.adjust import Adjustments, adjust, bias_pairs
from llm42_sglang.sampling.logprobs import TopLogprobs, logprobs, token_logprobs, top_logprobs
from llm42_sglang.sampling.noise import gumbel
from llm42_sglang.sampling.plan import WHOLE_VOCABULARY, Plan
from llm42_sglang.sampling.ranking import NO_TOKEN, greedy
from llm42_sglang.sampling.rows import sample

__all__ = [
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
