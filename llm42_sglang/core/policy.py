"""When a canonical pass runs between two decode steps, and which due requests ride in it.

A pass costs the same whatever is in its G slots, so a due page waits for company, and its request
decodes on meanwhile: it runs ahead. Time is counted in decode steps.

With R = run_ahead >= 1, at most G*R deterministic requests decoding and no finish suspected, one
pass between two decode steps is enough. Say that more than G requests are blocked at step t. Then
their pages became full at step t-R or before, and ever since more than G were due: every pass was
full and, earliest deadline first, took pages from t-R or before. At the end of step t-R there were
G*R such pages at most, one a request; R-1 full passes leave G. The same argument, with
W = min(wait_steps, run_ahead) for R, says that at most G*W requests wait W steps at most.

For any number of requests: passes run until nobody is blocked, so nobody waits more than run_ahead
steps once its page is full, T + run_ahead steps once a finish is suspected.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from llm42_sglang.core.config import ConfigError

Request = TypeVar("Request")


@dataclass(frozen=True, slots=True)
class Due(Generic[Request]):
    """A due request, as the policy sees it."""

    request: Request
    ahead: int  # candidates past the end of the due page; 0 while the page is not over-full
    waited: int  # decode steps since it became due
    suspected: bool = False  # a candidate may end the request: a client waits


@dataclass(frozen=True, slots=True)
class LanePolicy:
    """Decides from what is due, and from nothing else: the results do not depend on it."""

    group: int  # G, slots
    wait_steps: int  # decode steps a due page waits for company, at most
    run_ahead: int  # tokens past the end of a due page, 0..T; 0: a due request may not decode
    finish_steps: int = 4  # decode steps a suspected finish waits, at most

    def __post_init__(self) -> None:
        for name in ("group", "wait_steps", "run_ahead", "finish_steps"):
            value, least = getattr(self, name), 1 if name == "group" else 0
            if type(value) is not int or value < least:
                raise ConfigError(f"{name} must be a whole number from {least}, not {value!r}")

    def choose(self, due: Sequence[Due[Request]], passes: int, decoding: int) -> list[Request]:
        """Who rides in the next pass, most urgent first; empty: decode on.

        `passes` have run since the last decode step; `decoding` deterministic requests decode and
        have candidates, the due ones included: when all of them are due, no company can come.

        A suspected finish waits too, but only a few steps: for that long, a pass of its own would
        hold up everybody else (two to four steps on a GPU, a guess). Without any wait there is a
        pass per finish: less throughput in the simulator, and longer times per token for
        deterministic requests as well.
        """
        if passes:  # only a blocked request is worth another one
            run = any(map(self._blocked, due))
        else:
            full = len(due) >= min(self.group, decoding)
            run = full or any(self._steps_left(one) <= 0 for one in due)
        return self.fill(due, self.group) if run else []

    def fill(self, due: Sequence[Due[Request]], free: int) -> list[Request]:
        """Who takes the `free` slots of a pass that runs anyway, most urgent first."""
        by_urgency = sorted(due, key=self._urgency)  # stable: ties go first come, first served
        return [one.request for one in by_urgency[:free]]

    def _urgency(self, one: Due[Request]) -> tuple[bool, int]:
        """Blocked requests first, lest they need a second pass; then the earliest deadline."""
        return not self._blocked(one), self._steps_left(one)

    def _steps_left(self, one: Due[Request]) -> int:
        """Decode steps until this request alone is reason enough for a pass."""
        patience = self.finish_steps if one.suspected else self.wait_steps
        return min(self.run_ahead - one.ahead, patience - one.waited)

    def _blocked(self, one: Due[Request]) -> bool:
        """May not take part in the next decode step."""
        return one.ahead >= self.run_ahead
