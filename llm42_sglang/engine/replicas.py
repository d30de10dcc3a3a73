"""Data parallelism: the controller process between the front and the replicas' schedulers.

SGLang's controller hands on less than the schedulers report, and waits for ever when one of them
leaves before it is ready. Both are made good here, in that process.
"""

import logging
import os

from sglang.srt.managers.data_parallel_controller import DataParallelController

from llm42_sglang.engine.names import INFO_KEY, REFUSED_TO_START, REPLICAS_KEY

logger = logging.getLogger(__name__)


def hand_on_infos(original, controller: DataParallelController) -> dict:
    """AROUND DataParallelController.get_init_info: the proof of every scheduler, None for one that
    has none."""
    infos = [info.get(INFO_KEY) for info in controller._scheduler_init_infos]
    expected = controller.launch_dp_size * controller.server_args.tp_size
    infos += [None] * (expected - len(infos))
    return original(controller) | {REPLICAS_KEY: infos}


def leave_with_scheduler(original, controller: DataParallelController, *args, **kwargs) -> None:
    """AROUND DataParallelController.launch_tensor_parallel_group_thread: a replica that does not
    start takes the controller with it, and the front sees that."""
    try:
        original(controller, *args, **kwargs)
    except EOFError:
        logger.error("llm42: a replica has not started; see above")
        os._exit(REFUSED_TO_START)  # a thread cannot leave otherwise; the schedulers follow
