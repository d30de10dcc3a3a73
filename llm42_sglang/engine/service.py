"""Deterministic service of a scheduler process: live, or off."""

import logging

from llm42_sglang.engine.names import AUDIT_FAILED, UPDATE_FAILED

logger = logging.getLogger(__name__)


class Service:
    """Live from the start. A failed audit ends it for good; all others only look.

    After a weight update that failed half way it is off, until another update succeeds.
    """

    def __init__(self) -> None:
        self.problem: str | None = None  # for the client; None while the service is live

    @property
    def live(self) -> bool:
        """Whether deterministic requests are answered."""
        return self.problem is None

    def end(self, problem: str = AUDIT_FAILED) -> None:
        """Nobody gets an answer any more. Ordinary requests go on."""
        if self.problem in (None, UPDATE_FAILED):
            logger.error(problem)
            self.problem = problem

    def updated(self) -> None:
        """A weight update has succeeded."""
        if self.problem == UPDATE_FAILED:
            logger.info("llm42: a weight update has succeeded: deterministic service is live again")
            self.problem = None
