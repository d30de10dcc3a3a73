"""What can be said of a saved answer without a server: do its receipt's hashes and signature hold?

Only receipts of version 2 are looked at. Those of version 1 have one hash, which a replay compares.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from llm42_sglang.core.receipts import (
    SIGNATURE,
    key_id,
    output_digest,
    receipt_digest,
    request_digest,
)
from llm42_sglang.errors import UserError
from llm42_sglang.repro.connection import GENERATE
from llm42_sglang.repro.effective import in_force, seed_in_force
from llm42_sglang.repro.wire import receipt_in

# What the parts of a file that somebody has changed may raise.
_MALFORMED = (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError)


class PublicKey:
    """An Ed25519 key that a server's receipts are signed with."""

    def __init__(self, text: str):
        """text: base64 of its 32 bytes, as `llm42 key` prints it. Raises UserError."""
        try:
            raw = base64.b64decode(text.strip(), validate=True)
            self._key = Ed25519PublicKey.from_public_bytes(raw)
        except (ValueError, binascii.Error):
            raise UserError(
                f"{text[:60]!r} is no public key; it is the line that llm42 key prints, and "
                "public_key of GET /llm42/fingerprint"
            ) from None
        self.id = key_id(raw)

    def signed(self, receipt: Mapping[str, Any]) -> bool:
        """Whether the signature is this key's, over this receipt's `receipt_digest`."""
        try:
            signature = base64.b64decode(receipt["signature"], validate=True)
            self._key.verify(signature, bytes.fromhex(receipt["receipt_digest"]))
        except (InvalidSignature, *_MALFORMED):
            return False
        # Base64 of 64 bytes has four bits to spare.
        return base64.b64encode(signature).decode() == receipt["signature"]


def flaw_of(path: str, request: Mapping[str, Any], response: Mapping[str, Any]) -> str | None:
    """The first hash of the receipt that does not hold: one line. None if all do.

    A hash is made again where the file has what it is of: all of it on /generate with `input_ids`.
    """
    receipt = receipt_in(path, response) or {}
    if receipt.get("version") != 2:
        return None
    checks = {
        "receipt_digest": lambda: receipt_digest(receipt),
        "nonce": lambda: _nonce_of(path, request),
        "request_digest": lambda: _request_digest(path, request, receipt),
        "output_digest": lambda: _output_digest(path, response, receipt),
    }
    for name, made_again in checks.items():
        try:
            expected = made_again()
        except _MALFORMED as error:
            return f"the file gives no {name}: {error!r:.200}"
        if expected is not _UNKNOWN and expected != receipt.get(name):
            return f"the receipt has {name} {receipt.get(name)!r:.80}, and the file {expected!r}"
    return None


def flaw_of_signature(receipt: Mapping[str, Any], key: PublicKey) -> str | None:
    """Why the receipt is not signed with this key: one line. None if it is."""
    missing = [name for name in SIGNATURE if name not in receipt]
    if missing:
        return f"the receipt has no {' and no '.join(missing)}"
    if receipt["key"] != key.id or not key.signed(receipt):
        return f"the receipt is not signed with key {key.id}"
    return None


_UNKNOWN = object()  # in place of what the file does not hold


def _nonce_of(path: str, request: Mapping[str, Any]) -> Any:
    body = (request.get("sampling_params") or {}) if path == GENERATE else request
    places = (body.get("nonce"), (body.get("custom_params") or {}).get("nonce"))
    return next((nonce for nonce in places if nonce is not None), None)


def _request_digest(path: str, request: Mapping[str, Any], receipt: Mapping[str, Any]) -> Any:
    """Texts and messages become token ids in the server, so that only ids are known here."""
    ids = request.get("input_ids")
    if path != GENERATE or not isinstance(ids, list):
        return _UNKNOWN
    sampling = in_force(request, receipt)
    return request_digest(ids, sampling, seed_in_force(request, receipt, sampling))


def _output_digest(path: str, response: Mapping[str, Any], receipt: Mapping[str, Any]) -> Any:
    asked = receipt["sampling"]["logprobs"]
    if path == GENERATE:
        meta, ids = response["meta_info"], response["output_ids"]
        reason, scored = meta["finish_reason"], meta["output_token_logprobs"] if asked else None
        if scored is not None and [entry[1] for entry in scored] != ids:
            raise ValueError("output_token_logprobs has other tokens than output_ids")
        if reason["type"] == "length" and reason["length"] != len(ids):
            raise ValueError("finish_reason has another length than output_ids")
        values = None if scored is None else [entry[0] for entry in scored]
        return output_digest(ids, reason["type"], reason.get("matched"), values)
    choice = (response.get("choices") or [{}])[0]  # /v1/responses has none, and no ids
    ids = choice.get("token_ids") or choice.get("response_token_ids")
    if not ids or choice["finish_reason"] == "tool_calls":  # it hides which token has ended it
        return _UNKNOWN
    values = _logprobs_of(choice) if asked else None
    return output_digest(ids, choice["finish_reason"], choice.get("matched_stop"), values)


def _logprobs_of(choice: Mapping[str, Any]) -> list[float]:
    said = choice["logprobs"]
    if "content" in said:  # a chat
        return [entry["logprob"] for entry in said["content"]]
    return said["token_logprobs"]
