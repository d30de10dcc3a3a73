"""An abort ends the request that it names, and no other.

SGLang's scheduler takes the name for a prefix: "job-1" would end "job-10" too. What the processes
around it do with names: `front.namesakes`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sglang.srt.managers.schedule_batch import Req


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
