"""Pauses that overlap, at SGLang's own TokenizerManager. No server."""

import asyncio
from functools import partial

import pytest
from sglang.srt.managers.io_struct import ContinueGenerationReqInput, PauseGenerationReqInput
from sglang.srt.managers.tokenizer_manager import TokenizerManager

from llm42_sglang.engine.front.pauses import pause

SGLANGS = TokenizerManager.pause_generation


class Manager:
    """What a pause touches. One request is under way until the scheduler runs after an abort."""

    def __init__(self) -> None:
        self.is_pause, self.is_pause_cond = False, asyncio.Condition()
        self.model_update_lock = self
        self.runs, self.aborted = True, False

    async def _async_dispatch_to_scheduler(self, obj) -> None:
        self.runs = isinstance(obj, ContinueGenerationReqInput)

    def abort_request(self, abort_all: bool) -> None:
        self.aborted = True

    async def is_locked(self) -> bool:
        return not (self.runs and self.aborted)


async def overlapping(pausing, held: str) -> bool:
    """Whether a pause that aborts ends, while one of this mode holds the request."""
    manager = Manager()
    first = pausing(manager, PauseGenerationReqInput(mode=held))
    second = pausing(manager, PauseGenerationReqInput(mode="abort"))
    try:
        await asyncio.wait_for(asyncio.gather(first, second), timeout=0.5)
    except TimeoutError:
        return False
    assert manager.is_pause and not await manager.is_locked()
    await TokenizerManager.continue_generation(manager, ContinueGenerationReqInput())
    return not manager.is_pause


@pytest.mark.parametrize("held", ["in_place", "retract"])
def test_a_pause_that_aborts_ends_what_another_holds(held):
    assert asyncio.run(overlapping(partial(pause, SGLANGS), held))


@pytest.mark.parametrize("held", ["in_place", "retract"])
def test_negative_control_sglangs_own_hangs(held):
    assert not asyncio.run(overlapping(SGLANGS, held))
