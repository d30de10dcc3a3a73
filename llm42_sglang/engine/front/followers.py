"""A node other than node 0 has no front: it runs schedulers, and ends when they do.

SGLang's would leave with status 0 even where one was killed.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.process import BaseProcess

from sglang.srt.entrypoints.engine import SchedulerInitResult
from sglang.srt.runtime_context import get_parallel

from llm42_sglang.engine.hooks import after


@after(
    "sglang.srt.entrypoints.engine.Engine._launch_scheduler_processes",
    "fail with a scheduler of a node without a front",
    serving_only=True,
)
def watch_followers(
    launched: tuple[SchedulerInitResult, list[BaseProcess]], *args, **kwargs
) -> None:
    """Have the wait for the schedulers tell how they ended."""
    init, processes = launched
    if get_parallel().node_rank > 0:
        init.block_until_scheduler_exits = partial(
            leave_as_they_did, init.block_until_scheduler_exits, processes
        )


def leave_as_they_did(wait: Callable[[], None], processes: Sequence[BaseProcess]) -> None:
    """Wait for the schedulers. Raises SystemExit if one has failed."""
    wait()
    if failed := [process.exitcode for process in processes if process.exitcode]:
        node = get_parallel().node_rank
        sys.exit(f"llm42: error: a scheduler of node {node} has ended with status {failed[0]}")
