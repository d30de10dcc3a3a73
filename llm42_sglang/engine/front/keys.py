"""A hook on SGLang's check of API keys, which comes before everything else."""

from typing import Any

from llm42_sglang.engine.hooks import around


@around("sglang.srt.utils.auth.decide_request_auth", "take a key that is not ASCII for none")
def decide(original, *, authorization_header: str | None, **others: Any) -> Any:
    """SGLang compares keys with a function that raises for such a one: whoever sends it gets 500,
    and the log a traceback."""
    if authorization_header and not authorization_header.isascii():
        authorization_header = None
    return original(authorization_header=authorization_header, **others)
