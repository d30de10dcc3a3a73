"""A wheel of sglang: a file, a version, or `latest`. Versions come from pip, once."""

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from llm42_sglang.cli.cache import cache_dir
from llm42_sglang.cli.errors import UserError

LATEST = "latest"
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*((a|b|rc|\.post|\.dev)[0-9]+)*")  # PEP 440, public
TIMEOUT_S = 600  # a wheel has about 35 MB


def wheel_file(named: str) -> Path:
    """The wheel that the user named. Raises UserError, one line, if there is no such thing."""
    if named.endswith(".whl") or "/" in named:
        return Path(named)
    if named != LATEST and not _VERSION.fullmatch(named):
        raise UserError(f"{named} is neither a version, nor {LATEST}, nor a wheel file")
    folder = cache_dir() / "wheels"
    known = sorted(folder.glob(f"sglang-{named}-*.whl"))
    return known[0] if known else _download(named, folder)


def _download(version: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    wanted = "sglang" if version == LATEST else f"sglang=={version}"
    with TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        _pip_download(wanted, partial)
        (wheel,) = Path(partial).glob("*.whl")
        return wheel.replace(folder / wheel.name)  # by rename: what is there is complete


def _pip_download(wanted: str, folder: str) -> None:
    command = [sys.executable, "-m", "pip", "download", wanted, "--dest", folder]
    quiet = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*command, *quiet, "--no-input"], capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"pip download {wanted} took more than {TIMEOUT_S} s; try again") from None
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        said = errors[-1].removeprefix("ERROR: ") if errors else "no reason given"
        raise UserError(f"pip cannot download {wanted}: {said}")
