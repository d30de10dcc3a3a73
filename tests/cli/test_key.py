"""`llm42 key` and the server's refusal of keys that are none, or that others may read."""

import base64
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from llm42_sglang.core.config import Config, ConfigError
from llm42_sglang.engine.signing import load_signer
from llm42_sglang.engine.start import launch
from tests.cli.conftest import is_one_line

RECEIPT = {"receipt_digest": "5a" * 32}


@pytest.fixture
def key(tmp_path, llm42):
    file = tmp_path / "key.pem"
    status, printed, _ = llm42("key", str(file))
    assert status == 0
    return file, printed.strip()


def test_a_key_signs_and_its_public_key_verifies(key):
    file, public = key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    signer = load_signer(str(file))
    signed = signer.signed(RECEIPT)
    assert signer.public == {"public_key": public, "key": signed["key"]}
    verifier = Ed25519PublicKey.from_public_bytes(base64.b64decode(public))
    verifier.verify(base64.b64decode(signed["signature"]), bytes([0x5A] * 32))
    assert "PrivateKey" not in repr(signer) and "BEGIN" not in repr(signer)


def test_a_key_is_never_overwritten(key, tmp_path, llm42):
    file, _ = key
    before = file.read_bytes()
    status, _, line = llm42("key", str(file))
    assert status == 1 and is_one_line(line) and "exists" in line
    assert file.read_bytes() == before
    status, _, line = llm42("key", str(tmp_path / "none" / "key.pem"))
    assert status == 1 and is_one_line(line) and "cannot write" in line


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_key_that_others_may_read_is_refused(key, mode):
    file, _ = key
    file.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600") as refused:
        load_signer(str(file))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"secret", b"-----BEGIN PRIVATE KEY-----\nAA==\n"])
def test_what_is_no_key_is_refused_before_anything_starts(tmp_path, content):
    file = tmp_path / "other.pem"
    with pytest.raises(launch.LaunchError, match="No such file"):
        launch.enter(Config(signing_key=str(file)))
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(launch.LaunchError, match="not an Ed25519 key") as refused:
        launch.enter(Config(signing_key=str(file)))
    assert "\n" not in str(refused.value) and "secret" not in str(refused.value)


def test_keys_of_openssl_will_do_and_others_will_not(tmp_path):
    for kind, good in (("ED25519", True), ("X25519", False)):
        file = tmp_path / kind
        made = ["openssl", "genpkey", "-algorithm", kind, "-out", str(file)]
        subprocess.run(made, check=True, capture_output=True)
        file.chmod(0o600)
        if good:
            load_signer(str(file))
        else:
            with pytest.raises(ConfigError, match="not an Ed25519 key"):
                load_signer(str(file))


def test_a_damaged_key_is_a_key_or_refused_in_one_line(key):
    """Any byte another one, cut off anywhere, any line gone. A changed key may be a key too: who
    checks a signature must know the public key from elsewhere."""
    file, _ = key
    content = file.read_bytes()
    lines = content.splitlines(keepends=True)
    damaged = [content[:at] for at in range(len(content))]
    damaged += [content[:i] + b"A" + content[i + 1 :] for i in range(len(content))]
    damaged += [content[:i] + b"\xff" + content[i + 1 :] for i in range(len(content))]
    damaged += [b"".join(lines[:i] + lines[i + 1 :]) for i in range(len(lines))]
    refused = 0
    for each in damaged:
        file.write_bytes(each)
        load_signer.cache_clear()
        try:
            load_signer(str(file)).signed(RECEIPT)
        except ConfigError as error:
            assert "\n" not in str(error)
            refused += 1
    assert 0 < refused < len(damaged)
