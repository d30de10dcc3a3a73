"""Which waiting requests make the next prefill batch."""

from collections.abc import Sequence

from llm42_sglang.simulator.request import Request
from llm42_sglang.simulator.systems import System


def next_prefill(waiting: Sequence[Request], system: System, free: int) -> list[Request]:
    """First come, first served, of the first one's kind; `free`: requests that may still run."""
    batch: list[Request] = []
    room = system.prefill_tokens
    for request in waiting:
        if len(batch) == free or (batch and not _may_join(request, batch, system, room)):
            break
        if request.arrival.deterministic == (batch or [request])[0].arrival.deterministic:
            batch.append(request)
            room -= request.arrival.prompt_len
    return batch


def _may_join(request: Request, batch: Sequence[Request], system: System, room: int) -> bool:
    alone = system.prefill_alone and batch[0].arrival.deterministic
    return not alone and request.arrival.prompt_len <= room
