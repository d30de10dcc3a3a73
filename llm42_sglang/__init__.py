"""Deterministic LLM inference on stock SGLang by verified speculation.

Read the packages in this order:

1. `core`      the protocol, in pure Python
2. `engine`    where the protocol meets SGLang
3. `sampling`  how a token is drawn from a row of logits
4. `frontend`  what a request may ask for
5. `platform`  SGLang on hosts without an accelerator
6. `repro`, `report` and `pytest_plugin`  checks in CI
7. `cli`       the command `llm42`

`Engine` serves the program that starts it; `engine.offline` has it.
"""

from typing import Any

__version__ = "0.3.0"


def __getattr__(name: str) -> Any:
    """Import `Engine` when it is asked for: torch and SGLang take seconds to import."""
    if name != "Engine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from llm42_sglang.engine.offline import Engine

    return Engine
