"""A client's `nonce`, and where our own fields stand in `custom_params`.

The receipt repeats the nonce, and its hash and signature cover it. So a client that sends a new one
knows that the receipt was made for its request, and is not an old one.
"""

from collections.abc import Mapping
from typing import Any

from llm42_sglang.frontend.claims import CLAIM
from llm42_sglang.frontend.options import FIELD, Refused
from llm42_sglang.frontend.seeds import SEED
from llm42_sglang.frontend.values import encodes, require

NONCE = "nonce"  # in custom_params, where every other spelling is moved to
MOST = 128  # characters


def nonce_of(custom_params: Mapping[str, Any] | None) -> str | None:
    """The nonce of a request that was admitted."""
    return (custom_params or {}).get(NONCE)


def refuse_nonce(custom_params: Mapping[str, Any] | None, deterministic: bool) -> None:
    """Raise Refused for a nonce that no receipt could repeat."""
    nonce = nonce_of(custom_params)
    if nonce is None:
        return
    good = isinstance(nonce, str) and len(nonce) <= MOST and encodes(nonce)
    require(good, f"{NONCE} must be a string of at most {MOST} characters, got {nonce!r:.40}")
    require(
        deterministic,
        f"{NONCE}: an ordinary answer has no receipt; leave it out, or set {FIELD} to true",
    )


def with_nonce(custom_params: Mapping[str, Any], nonce: Any) -> dict[str, Any]:
    """Return `custom_params` with a nonce from elsewhere, None for none. Raises Refused."""
    if nonce is None:
        return dict(custom_params)
    if custom_params.get(NONCE, nonce) != nonce:
        raise Refused(f"{NONCE} contradicts custom_params.{NONCE}; send only one of them")
    return {**custom_params, NONCE: nonce}


def others_in(custom_params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what is not ours: SGLang reads some of it, which may change an answer."""
    ours = (FIELD, NONCE, SEED, CLAIM)
    return {name: value for name, value in (custom_params or {}).items() if name not in ours}
