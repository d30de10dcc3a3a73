"""What a /generate request says about its answer, in the words of a receipt's `sampling`.

A receipt names all that was in force. Where the request says nothing, that was the server's
default. Where it says something, it was that.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

_AS_IT_STANDS = (
    *("temperature", "top_p", "top_k", "min_p", "min_new_tokens"),
    *("frequency_penalty", "presence_penalty", "repetition_penalty"),
    *("ignore_eos", "no_stop_trim"),
)
_GRAMMARS = ("regex", "json_schema", "ebnf", "structural_tag")
_NOT_SAMPLING = ("deterministic", "nonce", "sampling_seed")  # in custom_params
_GREEDY_BELOW = 1e-6  # SGLang's, of temperatures
_ALL = (-1, 1 << 30)  # values of top_k that stand for the whole vocabulary


def in_force(request: Mapping[str, Any], receipt: Mapping[str, Any]) -> dict[str, Any]:
    """What the receipt says was in force, with what the request itself says in its place.

    The two are one if the receipt is of this request. Raises TypeError, ValueError or
    AttributeError for a request that no server takes.
    """
    params = request.get("sampling_params") or {}
    sampling = {**receipt["sampling"], **_said(params)}
    sampling["logprobs"] = bool(request.get("return_logprob"))
    most = params.get("max_new_tokens")
    if most is not None and most < sampling["max_new_tokens"]:  # the server cuts it, if anything
        sampling["max_new_tokens"] = most
    if 0 <= sampling["temperature"] < _GREEDY_BELOW or sampling["top_k"] == 1:
        sampling |= {"temperature": 0, "top_k": 1}
    elif sampling["top_k"] in _ALL:
        sampling["top_k"] = -1
    return sampling


def seed_in_force(
    request: Mapping[str, Any], receipt: Mapping[str, Any], sampling: Mapping[str, Any]
) -> int | None:
    """The request's number, else the receipt's. A greedy request has none."""
    seed = (request.get("sampling_params") or {}).get("sampling_seed")
    if sampling["temperature"] == 0:
        return None
    return seed if isinstance(seed, int) else receipt["seed"]


def _said(params: Mapping[str, Any]) -> dict[str, Any]:
    """What sampling parameters say. None is silence, as it is to SGLang."""
    given = {name: value for name, value in params.items() if value is not None}
    said = {name: given[name] for name in _AS_IT_STANDS if name in given}
    for name in ("stop", "stop_regex"):
        if name in given:
            said[name] = [given[name]] if isinstance(given[name], str) else list(given[name])
    if "stop_token_ids" in given:
        said["stop_token_ids"] = sorted({*given["stop_token_ids"]} - {None})
    if "logit_bias" in given:
        said["logit_bias"] = {str(int(token)): bias for token, bias in given["logit_bias"].items()}
    if "custom_params" in given:
        others = given["custom_params"].items()
        said["custom_params"] = {name: v for name, v in others if name not in _NOT_SAMPLING}
    for kind in _GRAMMARS:
        if kind in given:
            text = given[kind].encode("utf-8", "surrogatepass")
            said["grammar"] = {"kind": kind, "sha256": sha256(text).hexdigest()}
    return said
