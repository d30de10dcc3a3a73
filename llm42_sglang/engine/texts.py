"""A long text becomes tokens in a thread, so that the event loop serves others meanwhile.

SGLang does so for its OpenAI endpoints, not for /generate.
"""

import asyncio
from typing import Any

LONG = 20_000  # characters in all; less takes milliseconds


async def tokenize_aside(original, manager, texts: Any, *args, **kwargs) -> Any:
    """AROUND TokenizerManager._tokenize_texts. texts: one, several, or pairs of them."""
    tokenized = original(manager, texts, *args, **kwargs)
    # SGLang's batching tokenizer belongs to the event loop, and has a thread of its own.
    if manager.async_dynamic_batch_tokenizer is not None or _characters(texts) < LONG:
        return await tokenized
    return await asyncio.to_thread(asyncio.run, tokenized)


def _characters(texts: Any) -> int:
    if isinstance(texts, list | tuple):
        return sum(map(_characters, texts))
    return len(texts) if isinstance(texts, str) else 0
