"""How the configuration reaches every process of a server: one environment variable."""

import os

from llm42_sglang.core.config import Config

VARIABLE = "LLM42_CONFIG"  # JSON; set by `llm42 serve`, inherited by SGLang's child processes


def publish(config: Config) -> None:
    """Make this process and its children deterministic servers of this configuration."""
    os.environ[VARIABLE] = config.to_json()


def load() -> Config | None:
    """The published configuration, or None in a process that serves without llm42.

    Raises ConfigError when the variable is set but cannot be read.
    """
    text = os.environ.get(VARIABLE)
    return None if text is None else Config.from_json(text)
