"""A profile that cannot be made is refused.

In SGLang an error of the profiler ends the scheduler: at once, or many steps later, because a
profile may be asked for ahead of time.
"""

import contextlib
import logging
from typing import Any

from sglang.srt.managers.io_struct import ProfileReqOutput

from llm42_sglang.engine.hooks import around

logger = logging.getLogger(__name__)

_MANAGER = "sglang.srt.managers.scheduler_components.profiler_manager.SchedulerProfilerManager"


@around(f"{_MANAGER}._profile", "refuse a profile that cannot be made")
def answer(original, manager, request) -> Any:
    """Start or stop now, or make ready for later."""
    try:
        return original(manager, request)
    except Exception as error:
        _give_up(manager)
        told = f"there is no profile: {type(error).__name__} {error}".strip()
        return ProfileReqOutput(success=False, message=told)


@around(f"{_MANAGER}._profile_batch_predicate", "give up a profile that cannot be made")
def step(original, manager, batch) -> None:
    """Before every batch."""
    try:
        original(manager, batch)
    except Exception:
        logger.exception("llm42: the profile that was asked for cannot be made")
        _give_up(manager)


def _give_up(manager) -> None:
    """Forget the profile, which would fail again at the next step."""
    recording = getattr(manager, "torch_profiler", None)
    with contextlib.suppress(Exception):
        if recording is not None:
            recording.stop()
    manager.__post_init__()
