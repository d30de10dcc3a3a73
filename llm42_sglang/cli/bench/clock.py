"""Seconds that a server has had; they stand still while it is stopped."""

import asyncio
import time


class Clock:
    """Runs from when it is made, or from `start`. For one event loop, not for threads."""

    def __init__(self, running: bool = True) -> None:
        self._before_s = 0.0  # until it was stopped last
        self._since_s: float | None = None
        self._runs = asyncio.Event()
        if running:
            self.start()

    def __call__(self) -> float:
        """Seconds so far."""
        if self._since_s is None:
            return self._before_s
        return self._before_s + time.perf_counter() - self._since_s

    def start(self) -> None:
        """Go on; it stands still."""
        assert self._since_s is None, "runs already"
        self._since_s = time.perf_counter()
        self._runs.set()

    def stop(self) -> None:
        """Stand still."""
        self._before_s, self._since_s = self(), None
        self._runs.clear()

    async def started(self) -> None:
        """Return when it runs."""
        await self._runs.wait()

    async def sleep_until(self, at_s: float) -> None:
        """Return when the clock shows `at_s`, or soon after."""
        while (left_s := at_s - self()) > 0:
            await self.started()
            await asyncio.sleep(left_s)
