"""A request of a batch, or one of n samples, may end with an error of ours and leave the others be.

SGLang raises an exception for such an end, and that ends the whole batch. Here the end stays a
result, as in a stream: its finish reason has the error. If all results are errors, so is the batch.
"""

import contextvars
from collections.abc import Sequence
from typing import Any

from fastapi import HTTPException

from llm42_sglang.engine.hooks import around
from llm42_sglang.frontend.openai_body import failure_of

_MANAGER = "sglang.srt.managers.tokenizer_manager.TokenizerManager"

_in_batch = contextvars.ContextVar("in_batch", default=False)


@around(f"{_MANAGER}._collect_batch_responses", "let one of several results be an error")
async def collect(original, manager, generators) -> list[dict]:
    """Collect the results of a batch. The tasks that wait for them start in here, so each knows
    that it is one of several."""
    token = _in_batch.set(True)
    try:
        results = await original(manager, generators)
    finally:
        _in_batch.reset(token)
    failures = number_failures(results)
    if failures and len(failures) == len(results):
        _raise(failures[0])
    return results


@around(f"{_MANAGER}._handle_abort_finish_reason", "let one of several results be an error")
async def keep_result(original, manager, out: dict, state, is_stream: bool) -> dict | None:
    """Raise no exception for one result of several."""
    alone = not (_in_batch.get() and failure_of(out))
    return await original(manager, out, state, is_stream if alone else True)


def number_failures(results: Sequence[dict]) -> list[dict[str, Any]]:
    """The finish reasons that are errors of ours. Each gets the index of its result."""
    failures = []
    for index, result in enumerate(results):
        if failure_of(result):
            reason = result["meta_info"]["finish_reason"]
            reason["index"] = index
            failures.append(reason)
    return failures


def _raise(reason: dict[str, Any]) -> None:
    """Raise what SGLang raises for a single request."""
    if reason["status_code"] == 400:
        raise ValueError(reason["message"])
    raise HTTPException(reason["status_code"], reason["message"])
