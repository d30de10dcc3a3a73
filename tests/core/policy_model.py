"""A model of deterministic requests under a policy, without an engine. Its clock is decode steps.

The tracks are the protocol's own. A pass always draws the token RIGHT, so every candidate is either
RIGHT or WRONG. A request that may end proposes a candidate with a suspected finish.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from llm42_sglang.core.policy import Due, LanePolicy
from llm42_sglang.core.track import Born, Prefilled, Proposed, Track, Verified, step

RIGHT, WRONG = 0, 1


@dataclass(eq=False)  # compared and hashed by identity
class Request:
    track: Track
    waited: int = 0  # decode steps since it became due

    def due(self) -> Due["Request"]:
        return Due(self, self.track.ahead, self.waited, self.track.finish_suspected)


@dataclass(frozen=True)
class Odds:
    """Of what happens to a candidate, 0..1."""

    wrong: float
    wrong_at_page_end: float  # leaves the page due again at once
    suspected: float


class Lane:
    """Some requests, born at the given prompt lengths, and the policy that serves them."""

    def __init__(
        self,
        policy: LanePolicy,
        page_size: int,
        prompts: Sequence[int],
        odds: Odds,
        seed: int,
    ) -> None:
        self.policy, self.page_size, self.odds, self.random = policy, page_size, odds, Random(seed)
        self.requests = [Request(born(length, page_size)) for length in prompts]
        self.seen: Counter[str] = Counter()  # situations met, so that a test can ask for them

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.gap()
            self.decode_step()

    def decode_step(self) -> None:
        """Everybody decodes."""
        for request in self.requests:
            self.decode(request)

    def gap(self) -> None:
        """Everything between two decode steps."""
        passes = 0
        while riders := self.policy.choose(self._due(), passes, len(self.requests)):
            assert len(set(riders)) == len(riders) <= self.policy.group, "a pass of another shape"
            for request in riders:
                self.verify(request)
            passes += 1
            assert passes == 1 or not self._one_pass_is_enough, "a second pass"
        self.seen["no pass although somebody is due"] += not passes and bool(self._due())
        self.seen["several passes"] += passes > 1

    def verify(self, request: Request) -> None:
        track = request.track
        assert track.due, "verified before it was due"
        assert request.waited <= self._longest_wait, "waited too long"
        rows = track.due_span.end - track.canonical_len
        request.track, action = step(track, Verified([RIGHT] * rows))
        request.waited = 0
        self.seen["ran ahead by a page"] += track.ahead == self.page_size
        self.seen["due again"] += request.track.due
        self.seen["rollback past a page"] += action.dropped > track.ahead > 0

    def decode(self, request: Request) -> None:
        blocked = request.track.due and request.track.ahead >= self.policy.run_ahead
        assert not blocked, "decoded although blocked"
        last = (request.track.known_len + 1) % self.page_size == 0
        wrong = self.random.random() < (self.odds.wrong_at_page_end if last else self.odds.wrong)
        suspected = self.random.random() < self.odds.suspected
        request.waited += request.track.due
        request.track, _ = step(request.track, Proposed(WRONG if wrong else RIGHT, suspected))
        assert request.waited <= self._longest_wait, "starved"

    def _due(self) -> list[Due[Request]]:
        return [request.due() for request in self.requests if request.track.due]

    # What the policy's docstring promises

    def _fits(self, steps: int) -> bool:
        """Whether `steps` full passes in a row serve everybody."""
        fits = steps >= 1 and len(self.requests) <= self.policy.group * steps
        return fits and not self.odds.suspected

    @property
    def _one_pass_is_enough(self) -> bool:
        return self._fits(self.policy.run_ahead)

    @property
    def _longest_wait(self) -> int:
        patience = min(self.policy.wait_steps, self.policy.run_ahead)
        page = self.page_size if self.odds.suspected else 0
        return patience if self._fits(patience) else page + self.policy.run_ahead


def born(prompt_len: int, page_size: int) -> Track:
    """A request whose first token is committed."""
    track, _ = step(Track(page_size, committed_len=prompt_len), Prefilled(prompt_len))
    return step(track, Born(RIGHT))[0]
