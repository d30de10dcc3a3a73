"""Receipts in full, for those who make their hashes in another language.

`python -m tests.core.vectors` writes docs/receipts/vectors.json.
"""

import base64
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from llm42_sglang.core.encoding import encoded
from llm42_sglang.core.receipts import (
    Receipt,
    Segment,
    key_id,
    output_digest,
    request_digest,
)

FILE = Path(__file__).parents[2] / "docs" / "receipts" / "vectors.json"
SECRET = bytes(range(32))  # a key for tests

VALUES: list[Any] = [
    *(None, True, False, 0, 7, -1, 2**53 + 1, -(2**63), 1.0, -0.0, 0.1, -2.5, 1e300),
    *("", "a", "é", "\U0001f600", "\ud83d"),
    *([], [1, "1", None], {}, {"b": 1, "a": [0.5], "é": {}, "B": True, "aa": -1}),
]
PLAIN: dict[str, Any] = {
    **{"temperature": 0.0, "top_p": 1.0, "top_k": 1, "min_p": 0.0},
    **{"frequency_penalty": 0.0, "presence_penalty": 0.0, "repetition_penalty": 1.0},
    **{"logit_bias": {}, "max_new_tokens": 128, "min_new_tokens": 0, "ignore_eos": False},
    **{"stop": [], "stop_token_ids": [], "stop_regex": [], "no_stop_trim": False},
    **{"grammar": None, "require_reasoning": False, "custom_params": {}, "logprobs": False},
}
RICH = PLAIN | {
    **{"temperature": 0.7, "top_p": 0.95, "top_k": -1, "min_p": 0.05, "repetition_penalty": 1.1},
    **{"logit_bias": {"81": 60.0, "9": -0.5}, "stop": ["\n\n", "Ende"], "stop_token_ids": [2, 7]},
    **{"stop_regex": ["[.!?]$"], "max_new_tokens": 3, "min_new_tokens": 1, "logprobs": True},
    "grammar": {"kind": "regex", "sha256": "c" * 64},
    "custom_params": {"budget": 2, "names": ["x"]},
}
# What is hashed, by case: the request, the answer, and what else its receipt has.
CASES: dict[str, dict[str, Any]] = {
    "greedy": {
        "prompt_ids": [1, 4093, 253],
        "sampling": PLAIN,
        "seed": None,
        "output_ids": [28, 339, 2],
        "finish_reason": "stop",
        "matched": 2,
        "logprobs": None,
        "nonce": None,
        "segments": [["0" * 32, 3]],
    },
    "sampled": {
        "prompt_ids": [],
        "sampling": RICH,
        "seed": 2**52 + 1,
        "output_ids": [49151, 0, 5],
        "finish_reason": "stop",
        "matched": "Ende",
        "logprobs": [-0.5, -1.4012984643248171e-45, -0.0],
        "nonce": "challenge é \U0001f600",
        "segments": [["1" * 32, 1], ["2" * 32, 2]],
    },
    "cut": {
        "prompt_ids": [7] * 40,
        "sampling": PLAIN | {"max_new_tokens": 0, "logprobs": True},
        "seed": None,
        "output_ids": [],
        "finish_reason": "length",
        "matched": None,
        "logprobs": [],
        "nonce": "",
        "segments": [],
    },
}


def vectors() -> dict[str, Any]:
    """The content of the file."""
    return {
        "values": [{"json": value, "hex": encoded(value).hex()} for value in VALUES],
        "secret_key": base64.b64encode(SECRET).decode(),
        "public_key": public_key(),
        "receipts": {name: _vector(**case) for name, case in CASES.items()},
    }


def public_key() -> str:
    """Of the key that has signed them, in base64."""
    key = Ed25519PrivateKey.from_private_bytes(SECRET)
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _vector(**case: Any) -> dict[str, Any]:
    asked = {name: case[name] for name in ("prompt_ids", "sampling", "seed")}
    answer = {name: case[name] for name in ("output_ids", "finish_reason", "matched", "logprobs")}
    receipt = Receipt(
        verified=True,
        fingerprint=case["segments"][-1][0] if case["segments"] else "3" * 32,
        segments=tuple(Segment(*segment) for segment in case["segments"]),
        request_digest=request_digest(**asked),
        output_digest=output_digest(**answer),
        seed=case["seed"],
        sampling=case["sampling"],
        nonce=case["nonce"],
        canonical_steps=2,
        verify_passes=1,
        rollbacks=0,
        tokens_rolled_back=0,
    ).as_dict()
    return {"request": asked, "answer": answer, "receipt": _signed(receipt)}


def _signed(receipt: dict[str, Any]) -> dict[str, Any]:
    key = Ed25519PrivateKey.from_private_bytes(SECRET)
    signature = key.sign(bytes.fromhex(receipt["receipt_digest"]))
    name = key_id(key.public_key().public_bytes_raw())
    return receipt | {"key": name, "signature": base64.b64encode(signature).decode()}


def text() -> str:
    """The file's text. Half a surrogate pair is an escape in it."""
    return json.dumps(vectors(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
