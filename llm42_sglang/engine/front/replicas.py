"""Hooks in the controller process, which data parallelism puts between front and schedulers.

SGLang's controller passes on less than its schedulers report. And if a scheduler ends before it is
ready, the controller waits for ever. Both are mended here.
"""

import logging
import os
import threading
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess

from sglang.srt.managers.data_parallel_controller import DataParallelController

from llm42_sglang.engine.hooks import around, before
from llm42_sglang.engine.names import INFO_KEY, REFUSED_TO_START, REPLICAS_KEY

logger = logging.getLogger(__name__)

POLL_S = 0.5
_CONTROLLER = "sglang.srt.managers.data_parallel_controller.DataParallelController"


@around(f"{_CONTROLLER}.get_init_info", "prove that the hooks are live in every replica")
def hand_on_infos(original, controller: DataParallelController) -> dict:
    """Pass on what every scheduler reports, and None for one that reports nothing."""
    infos = [info.get(INFO_KEY) for info in controller._scheduler_init_infos]
    expected = controller.launch_dp_size * controller.server_args.tp_size
    infos += [None] * (expected - len(infos))
    return original(controller) | {REPLICAS_KEY: infos}


@before(f"{_CONTROLLER}.launch_dp_schedulers", "leave with a replica that fails")
def watch_schedulers(controller: DataParallelController, *args, **kwargs) -> None:
    """End the controller when a scheduler fails. The front process watches the controller."""
    watch = threading.Thread(
        target=leave_with_first, args=(controller.scheduler_procs,), daemon=True
    )
    watch.start()


def leave_with_first(processes: Sequence[BaseProcess]) -> None:
    """Wait until one of the processes has failed, then end this one. The others end with it."""
    while not (failed := [process for process in list(processes) if process.exitcode]):
        time.sleep(POLL_S)
    (status, pid) = failed[0].exitcode, failed[0].pid
    logger.error("llm42: the replica of process %d has ended with status %d", pid, status)
    # A thread cannot end the process otherwise.
    os._exit(REFUSED_TO_START if status == REFUSED_TO_START else 1)
