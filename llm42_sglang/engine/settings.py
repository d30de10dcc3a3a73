"""What reaches every process of a server by the environment: above all the configuration."""

import os
from contextlib import suppress

from llm42_sglang.core.config import Config

VARIABLE = "LLM42_CONFIG"  # JSON; set by `llm42 serve`, inherited by SGLang's child processes
REASONS = "LLM42_REASONS"  # a file, set by `Engine` while it starts


def publish(config: Config) -> None:
    """Make this process and its children deterministic servers of this configuration."""
    os.environ[VARIABLE] = config.to_json()


def withdraw() -> None:
    """Processes that start from now on serve without llm42."""
    os.environ.pop(VARIABLE, None)


def load() -> Config | None:
    """The published configuration, or None in a process that serves without llm42.

    Raises ConfigError when the variable is set but cannot be read.
    """
    text = os.environ.get(VARIABLE)
    return None if text is None else Config.from_json(text)


def give_reason(text: str) -> None:
    """Tell the caller of `Engine` why this process does not serve: one line.

    Nobody is told in a server, whose log has the line.
    """
    if path := os.environ.get(REASONS):
        with suppress(OSError), open(path, "r+") as file:  # gone, once the Engine has started
            file.seek(0, os.SEEK_END)
            file.write(f"{text}\n")
