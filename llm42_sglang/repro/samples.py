"""An exchange with n samples as n exchanges of one answer each."""

from collections.abc import Mapping
from typing import Any

from llm42_sglang.core.seeds import DEFAULT_SEED, FRESH, seed_of_sample
from llm42_sglang.errors import UserError
from llm42_sglang.repro.connection import GENERATE
from llm42_sglang.repro.exchange import SavedExchange
from llm42_sglang.repro.seeds import seeds_said
from llm42_sglang.repro.wire import deterministic_said

_PROMPTS = ("text", "input_ids", "prompt")


def samples_of(exchange: SavedExchange) -> list[SavedExchange]:
    """The samples, in order; sample i is the answer to the request with seed + i and n = 1.

    Raises UserError for a request with several prompts, or another number of answers.
    """
    request = _request_of(exchange)
    native, answers = exchange.path == GENERATE, exchange.answers
    params = request["sampling_params"] if native else request
    asked = params.get("n") or 1
    if len(answers) != asked:
        raise UserError(f"the request asks for n = {asked}, and {len(answers)} answers are there")
    if any(answer.get("index", at) != at for at, answer in enumerate(answers)):
        raise UserError("the choices are not in the order of their index")
    responses = _responses_of(exchange)
    if asked == 1:
        return [exchange.model_copy(update={"request": request, "response": responses[0]})]
    first = _seed_in(responses[0], native)
    samples = []
    for index, response in enumerate(responses):
        one = {**params, **_seed(params, native, index, first), "n": 1}
        alone = {**request, "sampling_params": one} if native else one
        samples.append(exchange.model_copy(update={"request": alone, "response": response}))
    return samples


def _request_of(exchange: SavedExchange) -> dict[str, Any]:
    """The request for one prompt, out of any list of one. Raises UserError."""
    request = dict(exchange.request)
    for name in _PROMPTS:
        prompt = request.get(name)
        if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
            if len(prompt) > 1:
                raise UserError("the request has several prompts; send them one by one")
            (request[name],) = prompt
    objects = ("custom_params",)
    if exchange.path == GENERATE:
        params = request.get("sampling_params")
        (params,) = params if isinstance(params, list) and len(params) == 1 else (params,)
        request["sampling_params"] = {} if params is None else params
        objects = ("sampling_params", "sampling_params.custom_params")
    for place in objects:
        value: Any = request
        for name in place.split("."):
            value = value.get(name)
        if not isinstance(value, Mapping | None):
            raise UserError(f"{place} must be an object, not {value!r:.40}")
    return request


def _responses_of(exchange: SavedExchange) -> list[dict[str, Any]]:
    """A response for each answer, with its own receipt."""
    whole = exchange.response
    if isinstance(whole, list):
        return whole
    if len(exchange.answers) == 1:
        return [whole]
    receipts = whole.get("llm42")
    receipts = [*receipts] if isinstance(receipts, list) else []
    receipts += [None] * len(exchange.answers)
    return [
        {**whole, "choices": [choice], "llm42": receipts[index]}
        for index, choice in enumerate(exchange.answers)
    ]


def _seed_in(response: Mapping[str, Any], native: bool) -> Any:
    receipt = (response.get("meta_info") or {} if native else response).get("llm42")
    return receipt.get("seed") if isinstance(receipt, Mapping) else None


def _seed(params: Mapping[str, Any], native: bool, index: int, first: Any) -> dict[str, int]:
    """The seed of a sample, as the request would say it; nothing where that stays open.

    It stays open if the server drew it: then the sample's receipt names it. For sample 0 it does so
    too if the request names none; then the others count from `first`, which sample 0 claims.
    """
    name = "sampling_seed" if native else "seed"
    said = seeds_said(params, name)
    given = next((seed for seed in said if isinstance(seed, int)), None)
    drawn = FRESH in said or deterministic_said(params) is None
    if given is None and (drawn or index == 0):
        return {}
    base = given if given is not None else first if isinstance(first, int) else DEFAULT_SEED
    return {name: seed_of_sample(base, index)}
