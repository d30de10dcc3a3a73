"""docs/receipts/vectors.json, made again by few lines that know nothing of the package.

Whoever writes them in another language needs what is here, and docs/receipts.md.
"""

import base64
import json
import struct
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

FILE = Path(__file__).parents[2] / "docs" / "receipts" / "vectors.json"
VECTORS = json.loads(FILE.read_text())
RECEIPTS = VECTORS["receipts"]


def u64(number: int) -> bytes:
    return number.to_bytes(8, "little")


def e(value: Any) -> bytes:
    """The bytes of a value."""
    if value is None or value is True or value is False:
        return {None: b"n", True: b"t", False: b"f"}[value]
    if isinstance(value, bytes):
        return b"b" + u64(len(value)) + value
    if isinstance(value, str):
        utf8 = value.encode("utf-8", "surrogatepass")
        return b"s" + u64(len(utf8)) + utf8
    if isinstance(value, list):
        return b"l" + u64(len(value)) + b"".join(e(item) for item in value)
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-8", "surrogatepass"))
        return b"m" + u64(len(names)) + b"".join(e(name) + e(value[name]) for name in names)
    if value == int(value) and -(2**63) <= value < 2**63:
        return b"i" + int(value).to_bytes(8, "little", signed=True)
    return b"d" + struct.pack("<d", value)


def h(*values: Any) -> str:
    return sha256(e(list(values))).hexdigest()


def ids(numbers: list[int]) -> bytes:
    return b"".join(number.to_bytes(8, "little", signed=True) for number in numbers)


def doubles(numbers: list[float] | None) -> bytes | None:
    return None if numbers is None else b"".join(struct.pack("<d", one) for one in numbers)


@pytest.mark.parametrize("vector", VECTORS["values"], ids=lambda vector: repr(vector["json"]))
def test_a_value_has_these_bytes(vector: dict[str, Any]) -> None:
    assert e(vector["json"]).hex() == vector["hex"]


@pytest.mark.parametrize("name", RECEIPTS)
def test_a_receipt_has_these_hashes(name: str) -> None:
    request, answer, receipt = (RECEIPTS[name][part] for part in ("request", "answer", "receipt"))
    prompt = ids(request["prompt_ids"])
    assert receipt["request_digest"] == h(
        "llm42 request 2", prompt, receipt["sampling"], receipt["seed"]
    )
    end = answer["finish_reason"], answer["matched"]
    assert receipt["output_digest"] == h(
        "llm42 output 2", ids(answer["output_ids"]), *end, doubles(answer["logprobs"])
    )
    others = ("receipt_digest", "key", "signature")
    fields = {name: value for name, value in receipt.items() if name not in others}
    assert receipt["receipt_digest"] == h("llm42 receipt 2", fields)


@pytest.mark.parametrize("name", RECEIPTS)
def test_a_receipt_has_this_signature(name: str) -> None:
    receipt = RECEIPTS[name]["receipt"]
    secret = Ed25519PrivateKey.from_private_bytes(base64.b64decode(VECTORS["secret_key"]))
    raw = secret.public_key().public_bytes_raw()
    assert base64.b64decode(VECTORS["public_key"]) == raw
    assert receipt["key"] == sha256(raw).hexdigest()[:16]
    key, digest = Ed25519PublicKey.from_public_bytes(raw), receipt["receipt_digest"]
    signature = base64.b64decode(receipt["signature"])
    key.verify(signature, bytes.fromhex(digest))
    with pytest.raises(InvalidSignature):
        key.verify(signature, bytes.fromhex(digest[::-1]))


def test_the_file_is_what_the_package_makes() -> None:
    from tests.core import vectors

    assert vectors.text() == FILE.read_text(), "run: python -m tests.core.vectors"
