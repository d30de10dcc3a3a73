"""An exchange with n samples as n exchanges of one answer each."""

from collections.abc import Mapping
from typing import Any

from llm42_sglang.core.seeds import DEFAULT_SEED, FRESH, seed_of_sample
from llm42_sglang.errors import UserError
from llm42_sglang.repro.connection import GENERATE
from llm42_sglang.repro.exchange import SavedExchange
from llm42_sglang.repro.seeds import seeds_said


def samples_of(exchange: SavedExchange) -> list[SavedExchange]:
    """The samples, in order; sample i is the answer to the request with seed + i and n = 1.

    Raises UserError for a request with several prompts.
    """
    prompt = exchange.request.get("prompt" if exchange.path != GENERATE else "text")
    if isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int):
        raise UserError("the request has several prompts; send them one by one")
    answers = exchange.answers
    if len(answers) == 1:
        return [exchange]
    return [
        exchange.model_copy(
            update={
                "request": _request_of(exchange, index),
                "response": _response_of(exchange, index),
            }
        )
        for index in range(len(answers))
    ]


def _response_of(exchange: SavedExchange, index: int) -> dict[str, Any]:
    if isinstance(exchange.response, list):
        return exchange.response[index]
    receipts = exchange.response.get("llm42")
    one = receipts[index] if isinstance(receipts, list) and index < len(receipts) else None
    return {**exchange.response, "choices": [exchange.answers[index]], "llm42": one}


def _request_of(exchange: SavedExchange, index: int) -> dict[str, Any]:
    request = exchange.request
    if exchange.path != GENERATE:
        return {**_with_seed(request, "seed", index), "n": 1}
    params = request.get("sampling_params") or {}
    return {**request, "sampling_params": {**_with_seed(params, "sampling_seed", index), "n": 1}}


def _with_seed(params: Mapping[str, Any], name: str, index: int) -> dict[str, Any]:
    """A seed that the server drew stays open: the sample's receipt names it."""
    said = seeds_said(params, name)
    given = next((seed for seed in said if isinstance(seed, int)), None)
    if given is None and (FRESH in said or not _asks(params)):
        return dict(params)
    seed = DEFAULT_SEED if given is None else given
    return {**params, name: seed_of_sample(seed, index)}


def _asks(params: Mapping[str, Any]) -> bool:
    custom = params.get("custom_params")
    custom = custom if isinstance(custom, Mapping) else {}
    return (params.get("deterministic"), custom.get("deterministic")) != (None, None)
