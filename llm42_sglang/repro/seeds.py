"""The seed that the server drew for an answer. The receipt names it, and a replay sends it."""

from collections.abc import Mapping
from typing import Any

from llm42_sglang.core.seeds import FRESH
from llm42_sglang.repro.connection import GENERATE
from llm42_sglang.repro.output import Output


def with_drawn_seed(path: str, request: Mapping[str, Any], claimed: Output) -> dict[str, Any]:
    """The request with the receipt's seed, if the server drew one for it; else as it is."""
    seed = claimed.receipt.seed if claimed.receipt else None
    if seed is None:
        return dict(request)
    if path != GENERATE:
        return _with_seed(request, "seed", seed)
    sampling = _object(request.get("sampling_params"))
    return {**request, "sampling_params": _with_seed(sampling, "sampling_seed", seed)}


def _with_seed(params: Mapping[str, Any], name: str, seed: int) -> dict[str, Any]:
    """The server draws a seed if the parameters say "fresh", or neither a seed nor `deterministic`.

    Otherwise the seed follows from them, and a receipt that claims another one is not authentic.
    """
    custom = _object(params.get("custom_params"))
    said = seeds_said(params, name)
    asked = (params.get("deterministic"), custom.get("deterministic"))
    silent = said == (None, None, None) and asked == (None, None)
    if not silent and FRESH not in said:
        return dict(params)
    others = {key: value for key, value in params.items() if key != "sampling_seed"}
    if custom:
        rest = {key: value for key, value in custom.items() if key != "sampling_seed"}
        others["custom_params"] = rest
    return others | {name: seed}


def seeds_said(params: Mapping[str, Any], name: str) -> tuple[Any, Any, Any]:
    """What parameters say in the places where a seed may stand; None for nothing."""
    custom = _object(params.get("custom_params"))
    return params.get(name), params.get("sampling_seed"), custom.get("sampling_seed")


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
