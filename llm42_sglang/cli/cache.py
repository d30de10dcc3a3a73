"""The folder for what is made once and kept: environments (`scripts/_env.sh`), models, logs."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """The absolute path of the cache folder, which may not exist yet.

    `scripts/_env.sh` has the same rule.
    """
    if folder := os.environ.get("LLM42_CACHE"):
        return Path(folder).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "llm42"
