"""`llm42 key`: make a key that signs receipts."""

import base64
from pathlib import Path
from typing import Annotated

import typer

from llm42_sglang.cli.output import say
from llm42_sglang.core.receipts import key_id
from llm42_sglang.errors import UserError
from llm42_sglang.files import write_new


def key(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist yet.")],
) -> None:
    """Make an Ed25519 key for --llm42-signing-key, and print its public key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        write_new(file, pem, mode=0o600)  # nobody else may read it, not even for a moment
    except FileExistsError:
        raise UserError(f"{file} exists; a key is never overwritten: name another file") from None
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from None
    raw = private.public_key().public_bytes_raw()
    say(f"{file} is key {key_id(raw)}; keep it secret. Its public key:")
    print(base64.b64encode(raw).decode())
