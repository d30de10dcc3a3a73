"""An abort ends the request that it names, and no other.

SGLang's scheduler takes the name for a prefix: "job-1" would end "job-10" too. A client that means
a prefix puts a star at its end: "job-1*".
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sglang.srt.managers.schedule_batch import Req

from llm42_sglang.engine.hooks import around


@around(
    "sglang.srt.managers.tokenizer_manager.TokenizerManager.abort_request",
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
