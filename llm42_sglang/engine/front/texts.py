"""A long text becomes tokens in a thread, so that the event loop serves others meanwhile.

SGLang does so for its OpenAI endpoints, not for /generate, /tokenize and /detokenize.
"""

import asyncio
from functools import cache
from typing import Any

from llm42_sglang.engine.hooks import around

_ENDPOINTS = "sglang.srt.entrypoints.openai.serving_tokenize"
LONG = 20_000  # characters in all; less takes milliseconds


@around(
    "sglang.srt.managers.tokenizer_manager.TokenizerManager._tokenize_texts",
    "make tokens of a long text in a thread",
)
async def tokenize_aside(original, manager, texts: Any, *args, **kwargs) -> Any:
    """texts: one, several, or pairs of them."""
    tokenized = original(manager, texts, *args, **kwargs)
    # SGLang's batching tokenizer belongs to the event loop, and has a thread of its own.
    if manager.async_dynamic_batch_tokenizer is not None or _characters(texts) < LONG:
        return await tokenized
    return await asyncio.to_thread(asyncio.run, tokenized)


@around(
    f"{_ENDPOINTS}.OpenAIServingTokenize._handle_non_streaming_request",
    "make tokens of a long text in a thread",
)
@around(
    f"{_ENDPOINTS}.OpenAIServingDetokenize._handle_non_streaming_request",
    "make a text of many tokens in a thread",
)
async def convert_aside(original, serving, adapted, request, raw_request) -> Any:
    """An answer of /tokenize or /detokenize."""
    if told := _too_long(serving.tokenizer_manager, request):
        return serving.create_error_response(told)
    return await asyncio.to_thread(asyncio.run, original(serving, adapted, request, raw_request))


def _too_long(manager: Any, request: Any) -> str:
    """What no prompt could be; "" where that is not so."""
    prompt, tokens = getattr(request, "prompt", None) or [], getattr(request, "tokens", [])
    texts = [prompt] if isinstance(prompt, str) else prompt
    listed = [tokens] if tokens and isinstance(tokens[0], int) else tokens
    if max(map(len, listed), default=0) > manager.context_len:
        return f"llm42: tokens: at most {manager.context_len} of one prompt"
    if not texts or manager.tokenizer is None or manager.allow_auto_truncate:
        return ""
    most = manager.context_len * _longest_token(manager.tokenizer)
    return f"llm42: prompt: at most {most} characters" if max(map(len, texts)) > most else ""


@cache
def _longest_token(tokenizer: Any) -> int:
    """In characters."""
    return max(map(len, tokenizer.get_vocab()))


def _characters(texts: Any) -> int:
    if isinstance(texts, list | tuple):
        return sum(map(_characters, texts))
    return len(texts) if isinstance(texts, str) else 0
