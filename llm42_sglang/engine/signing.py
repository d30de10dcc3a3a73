"""The key that signs receipts. Only the process that has the HTTP server or the Engine reads it.

Other processes learn the name of its file, and never open it.
"""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from llm42_sglang.core.config import ConfigError
from llm42_sglang.core.receipts import key_id

_FLAG = "--llm42-signing-key"
_OTHERS = 0o077  # of a file's mode: what its group and others may do


@dataclass(frozen=True)
class Signer:
    """Signs receipts. The key is never shown."""

    key: Ed25519PrivateKey = field(repr=False)

    @cached_property
    def public(self) -> Mapping[str, str]:
        """The public key in base64, and the key's name in receipts."""
        raw = self.key.public_key().public_bytes_raw()
        return {"public_key": base64.b64encode(raw).decode(), "key": key_id(raw)}

    def signed(self, receipt: Mapping[str, Any]) -> dict[str, Any]:
        """The receipt with `key` and `signature`."""
        signature = self.key.sign(bytes.fromhex(receipt["receipt_digest"]))
        encoded = base64.b64encode(signature).decode()
        return {**receipt, "key": self.public["key"], "signature": encoded}


@cache
def load_signer(path: str) -> Signer:
    """Read a file that `llm42 key` has written, or openssl. Raises ConfigError."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                raise ConfigError(f"{_FLAG} {path}: others may read it; run: chmod 600 {path}")
            pem = file.read()
    except OSError as error:
        raise ConfigError(f"{_FLAG} {path}: {error.strerror}; llm42 key makes a key") from None
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # the second for an encrypted one
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f"{_FLAG} {path}: not an Ed25519 key in PEM (PKCS#8) without password; "
            "llm42 key makes one"
        )
    return Signer(key)
