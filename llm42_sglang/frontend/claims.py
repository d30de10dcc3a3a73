"""A claimed answer in a request: `custom_params.claim`, the token ids of its output.

The server draws every token itself. So a claim changes how fast an answer comes, or whether one
comes at all, and never which tokens it has. It is no part of the request's digest.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llm42_sglang.frontend.options import FIELD
from llm42_sglang.frontend.values import is_int, require

CLAIM = "claim"  # in custom_params


def claim_of(custom_params: Mapping[str, Any] | None) -> Sequence[int] | None:
    """The claimed token ids of a request that was admitted; None for no claim."""
    return (custom_params or {}).get(CLAIM)


def refuse_claim(custom_params: Mapping[str, Any] | None, n: Any, deterministic: bool) -> None:
    """Raise Refused for a claim that cannot be checked. n: the samples that are asked for."""
    claim = claim_of(custom_params)
    if claim is None:
        return
    good = isinstance(claim, list) and len(claim) > 0 and all(map(is_int, claim))
    require(good, f"{CLAIM} must be a list of token ids, at least one, got {claim!r:.40}")
    require(deterministic, f"{CLAIM}: an ordinary answer cannot be checked; set {FIELD} to true")
    require(n == 1, f"{CLAIM} is of one answer; send n = 1, and seed + i for sample i")
