"""A name belongs to one request at a time. Clients use names again, as one that tries again does.

- An abort ends the request of its name. A client that means a prefix puts a star at its end:
  "job-1*".
- SGLang aborts the name of every stream two seconds after its end, in case the client has left. It
  may be a later request's by then.
- SGLang's detokenizer keeps the text of a request that was aborted in the queue. The next one of
  that name would go on with it, and begin with the end of its own prompt.
"""

import asyncio
from typing import Any

from fastapi import BackgroundTasks

from llm42_sglang.engine.hooks import around, before

_MANAGER = "sglang.srt.managers.tokenizer_manager.TokenizerManager"
LEFT_S = 2  # SGLang's


@around(f"{_MANAGER}.create_abort_task", "end what a stream has left, and no later namesake")
def abort_left(original, manager, obj: Any) -> BackgroundTasks:
    """Called for each stream; what it returns runs after its end."""

    async def abort() -> None:
        await asyncio.sleep(LEFT_S)
        parts = getattr(obj, "_sub_obj_cache", {}).values()  # of a batch
        own = {id(obj), *map(id, parts)}
        for rid, state in list(manager.rid_to_state.items()):
            if id(state.obj) in own:
                manager.abort_request(rid)

    tasks = BackgroundTasks()
    tasks.add_task(abort)
    return tasks


@around(
    f"{_MANAGER}.abort_request",
    "end all whose names begin so, where a star asks for that",
    serving_only=True,
)
def abort_named(original, manager, rid: str = "", abort_all: bool = False) -> None:
    """One abort for each request that a star stands for."""
    known = list(manager.rid_to_state)
    if abort_all or not rid.endswith("*") or rid == "*" or rid in known:
        original(manager, rid, abort_all)
        return
    for one in known:
        if one.startswith(rid[:-1]):
            original(manager, one)


@before(
    "sglang.srt.managers.detokenizer_manager.DetokenizerManager._decode_batch_token_id_output",
    "begin every request with an empty text",
)
def forget_namesake(manager, message) -> None:
    """message: SGLang's BatchTokenIDOutput. The first one of a request brings all of its output,
    behind the last tokens of its prompt (one at least)."""
    names = zip(
        *(message.rids, message.decode_ids, message.read_offsets, message.completion_tokens),
        strict=True,
    )
    for rid, ids, behind, output in names:
        if len(ids) == behind + output:
            manager.decode_status.pop(rid, None)
