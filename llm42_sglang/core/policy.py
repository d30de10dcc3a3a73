"""When a canonical pass runs between two decode steps, and which due requests it verifies.

A pass costs the same however many of its G slots hold a page. So a due page waits until others are
due too, and they share a pass. Its request decodes on meanwhile and runs ahead of the page. After
`run_ahead` candidates past the page's end the request is blocked: no further decode step before its
page is verified. All waiting is counted in decode steps.

Two bounds hold, and tests/core/test_policy.py checks them.

1. For any number of requests: nobody waits more than run_ahead steps once its page is full, or
   T + run_ahead steps once a finish is suspected. For passes run until nobody is blocked.

2. Let R = run_ahead >= 1, with at most G*R deterministic requests decoding and no finish suspected.
   Then one pass between two decode steps is enough. For suppose that more than G requests are
   blocked at step t. Their pages became full at step t-R or before. Since then more than G requests
   were due, so every pass was full. It took the earliest deadlines first, so it took pages that
   became full at step t-R or before. At the end of that step there were at most G*R of these, one
   for each request. The R-1 full passes since then took G each, which leaves at most G. So no more
   than G are blocked.
   With W = min(wait_steps, run_ahead) in place of R, the same argument shows that of at most G*W
   requests none waits more than W steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from llm42_sglang.core.config import ConfigError

Request = TypeVar("Request")


@dataclass(frozen=True, slots=True)
class Due(Generic[Request]):
    """What the policy knows of one due request."""

    request: Request
    ahead: int  # candidates past the end of the due page
    waited: int  # decode steps since it became due
    suspected: bool = False  # a candidate may end the request, whose client waits for the end


@dataclass(frozen=True, slots=True)
class LanePolicy:
    """Decides when due requests are verified, and in what order.

    The policy affects speed only. The tokens are the same whatever it decides.
    Raises ConfigError for a setting below its least value.
    """

    group: int  # G, slots
    wait_steps: int  # decode steps that a due page waits for others, at most
    run_ahead: int  # candidates past the end of a due page, 0..T; with 0 a full page blocks
    finish_steps: int = 4  # decode steps that a suspected finish waits for others, at most

    def __post_init__(self) -> None:
        for name in ("group", "wait_steps", "run_ahead", "finish_steps"):
            value, least = getattr(self, name), 1 if name == "group" else 0
            if type(value) is not int or value < least:
                raise ConfigError(f"{name} must be a whole number from {least}, not {value!r}")

    def choose(self, due: Sequence[Due[Request]], passes: int, decoding: int) -> list[Request]:
        """Return the requests that the next pass verifies, the most urgent first.

        An empty list means: no pass now, decode on.

        due: the due requests, at most one entry each.
        passes: how many passes have run since the last decode step.
        decoding: how many deterministic requests have candidates, the due ones included. When all
            of them are due, waiting for others is pointless.

        A suspected finish waits as well, but only finish_steps: about the time for which a pass of
        its own would hold up everybody else (by estimate two to four decode steps on a GPU). In the
        simulator, not waiting at all lowered throughput and slowed deterministic requests too.
        """
        if passes:  # only a blocked request justifies another pass
            run = any(map(self._blocked, due))
        else:
            full = len(due) >= min(self.group, decoding)
            run = full or any(self._steps_left(one) <= 0 for one in due)
        return self.fill(due, self.group) if run else []

    def fill(self, due: Sequence[Due[Request]], free: int) -> list[Request]:
        """Return requests for the `free` slots of a pass that runs anyway, most urgent first."""
        by_urgency = sorted(due, key=self._urgency)  # stable: equals keep their order
        return [one.request for one in by_urgency[:free]]

    def _urgency(self, one: Due[Request]) -> tuple[bool, int]:
        """Sort key: blocked requests come first, then those with the fewest steps left."""
        return not self._blocked(one), self._steps_left(one)

    def _steps_left(self, one: Due[Request]) -> int:
        """The decode steps that are left until this request alone is reason enough for a pass."""
        patience = self.finish_steps if one.suspected else self.wait_steps
        return min(self.run_ahead - one.ahead, patience - one.waited)

    def _blocked(self, one: Due[Request]) -> bool:
        """Whether the request must be verified before its next decode step."""
        return one.ahead >= self.run_ahead
