"""The seeds of requests and samples. With n > 1, sample i draws with seed + i.

SGLang sends the same request n times, with one object of parameters. So the count of those sent is
kept in that object, and goes when the request goes.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any

from sglang.srt.sampling.sampling_params import SamplingParams

from llm42_sglang.core.seeds import fresh_seed, seed_of_sample
from llm42_sglang.engine.parameters import plan_of
from llm42_sglang.frontend.options import FIELD
from llm42_sglang.frontend.seeds import asks_for_fresh_seed

SENT = "llm42_sent"  # of custom_params, until the request leaves this process


def settle_seed(params: SamplingParams) -> None:
    """Draw the seed of a deterministic request, if it is to have a fresh one.

    It asks for it by the word; or it asks neither for determinism nor for a seed. That one has
    not asked for the same answer twice, and a group of such requests would be clones. A greedy
    request draws nothing.
    """
    custom = params.custom_params or {}
    silent = custom.get(FIELD) is None and params.sampling_seed is None
    if (silent or asks_for_fresh_seed(custom)) and not plan_of(params).greedy:
        params.sampling_seed = fresh_seed()


def expect_samples(params: SamplingParams) -> None:
    """Prepare parameters of which n samples will be sent."""
    others: dict[str, Any] = {k: v for k, v in (params.custom_params or {}).items() if k != SENT}
    params.custom_params = others | ({SENT: count()} if params.n > 1 else {})


def next_sample(params: SamplingParams) -> SamplingParams:
    """The parameters of the sample that is sent next: a copy with its seed, or `params` itself.

    The request that warms the prefix cache before the samples draws nothing and is not counted.
    """
    custom = params.custom_params or {}
    sent = custom.get(SENT)
    if not isinstance(sent, Iterator):
        return params
    numbered = params.__copy__()
    numbered.custom_params = {name: value for name, value in custom.items() if name != SENT}
    if params.max_new_tokens != 0:
        numbered.sampling_seed = seed_of_sample(params.sampling_seed, next(sent))
    return numbered
