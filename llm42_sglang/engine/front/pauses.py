"""A pause that aborts, while another pause holds the requests.

SGLang waits for the aborted requests to end, and lets nobody continue meanwhile. Under a pause
`in_place` or `retract` none of them ends, so the server would hang for ever. Here the scheduler
goes on first; the front still holds new requests back.
"""

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from sglang.srt.managers.io_struct import ContinueGenerationReqInput, PauseGenerationReqInput

from llm42_sglang.engine.hooks import around

# One pause at a time begins, by TokenizerManager: no other comes between the two steps below.
_beginning: "WeakKeyDictionary[Any, asyncio.Lock]" = WeakKeyDictionary()


@around(
    "sglang.srt.managers.tokenizer_manager.TokenizerManager.pause_generation",
    "let a pause that aborts end what another one holds",
)
async def pause(original, manager, obj: PauseGenerationReqInput) -> None:
    """As SGLang's."""
    async with _beginning.setdefault(manager, asyncio.Lock()):
        if obj.mode == "abort":
            async with manager.is_pause_cond:
                held, manager.is_pause = manager.is_pause, True
                if held:
                    go_on = ContinueGenerationReqInput(torch_empty_cache=False)
                    await manager._async_dispatch_to_scheduler(go_on)
        await original(manager, obj)
