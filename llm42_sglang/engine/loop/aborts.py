"""An abort ends the request that it names, and no other.

SGLang's scheduler takes the name for a prefix: "job-1" would end "job-10" too. A client that means
a prefix puts a star at its end: "job-1*".

SGLang aborts the name of every stream two seconds after its end, in case the client has left. A
client may use a name again by then, as one that tries again does.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import BackgroundTasks
from sglang.srt.managers.schedule_batch import Req

from llm42_sglang.engine.hooks import around

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
)
def abort_named(original, manager, rid: str = "", abort_all: bool = False) -> None:
    """One abort for each request that a star stands for."""
    known = list(manager.rid_to_state)
    if abort_all or not rid.endswith("*") or rid in known:
        original(manager, rid, abort_all)
        return
    for one in known:
        if one.startswith(rid[:-1]):
            original(manager, one)


@contextmanager
def hidden_namesakes(reqs: Iterable[Req | None], rid: str) -> Iterator[None]:
    """While active, requests whose names only begin with `rid` have other names."""
    hidden = {
        id(req): (req, req.rid)
        for req in reqs
        if req is not None and req.rid != rid and req.rid.startswith(rid)
    }
    for req, name in hidden.values():
        req.rid = f"\0{name}"
    try:
        yield
    finally:
        for req, name in hidden.values():
            req.rid = name
