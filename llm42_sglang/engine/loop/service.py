"""Deterministic service of a scheduler process: live, or ended for good."""

import logging

from llm42_sglang.engine.names import AUDIT_FAILED

logger = logging.getLogger(__name__)


class Service:
    """Live from the start until an audit fails. The audit ends it; all others only look."""

    def __init__(self) -> None:
        self.live = True

    def end(self) -> None:
        """An audit has failed: nobody gets an answer any more. Ordinary requests go on."""
        if self.live:
            logger.error(AUDIT_FAILED)
        self.live = False
