"""The folder that holds everything made once: environments (`scripts/_env.sh`), models, logs."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """The cache folder, absolute; it may not exist yet. `scripts/_env.sh` has the same rule."""
    if named := os.environ.get("LLM42_CACHE"):
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "llm42"
