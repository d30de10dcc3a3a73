"""A plugin of Coverage.py: what a process has run is saved twice a second.

SGLang ends its processes with SIGKILL, and so do the tests with servers. What such a process ran
would be lost if it were saved at the end only.
"""

import os
import threading
import time

from coverage import Coverage
from coverage.plugin import CoveragePlugin

EVERY_S = 0.5
SAVING = threading.Lock()  # nobody forks while it is held: the child could never write
os.register_at_fork(
    before=SAVING.acquire, after_in_parent=SAVING.release, after_in_child=SAVING.release
)


def coverage_init(registry, options: dict) -> None:
    """Coverage.py calls it in every process that it measures."""
    registry.add_noop(CoveragePlugin())
    threading.Thread(target=_keep_saving, daemon=True).start()


def _keep_saving() -> None:
    while True:
        time.sleep(EVERY_S)
        with SAVING:
            if measured := Coverage.current():
                measured.save()
