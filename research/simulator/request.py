"""One request while it is served. A token has no id here: it is right or wrong."""

from dataclasses import dataclass, field, replace
from math import inf, log
from random import Random

from llm42_sglang.core.policy import Due
from llm42_sglang.core.track import Born, Prefilled, Proposed, Stepped, Track, Verified, step
from simulator.workload import Arrival

RIGHT, WRONG = 0, 1


@dataclass(eq=False, slots=True)  # compared and hashed by identity
class Request:
    """An ordinary request; its client sees every token at once."""

    arrival: Arrival
    delivered: int = 0  # output tokens the client has
    first_s: float = 0.0
    last_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)  # between two deliveries

    @property
    def finished(self) -> bool:
        return self.delivered >= self.arrival.output_len

    def deliver(self, tokens: int, now_s: float) -> None:
        """Tokens reach the client, but none past the end of the output."""
        if not self.delivered:
            self.first_s = now_s
        else:
            self.gaps_s.append(now_s - self.last_s)
        self.delivered = min(self.delivered + tokens, self.arrival.output_len)
        self.last_s = now_s


class Deterministic(Request):
    """A request with a real track. Its client sees committed tokens only."""

    __slots__ = ("_flip_rate", "_random", "_until_flip", "sliding", "track", "waited")

    def __init__(self, arrival: Arrival, page: int, sliding: bool, flip_rate: float) -> None:
        super().__init__(arrival)
        self.track = Track(page_size=page, committed_len=arrival.prompt_len)
        self.sliding = sliding
        self.waited = 0  # decode steps since it became due
        self._flip_rate, self._random = flip_rate, Random(arrival.seed)
        self._until_flip = self._draw()

    def born(self, now_s: float) -> None:
        """The prompt is prefilled: its first token is committed."""
        track, _ = step(self.track, Prefilled(self.arrival.prompt_len))
        self.track = self._rebased(step(track, Born(RIGHT))[0])
        self.deliver(1, now_s)

    def due(self, certified: bool) -> bool:
        """Whether its page is to be verified; certified: the size of the next step is, so that
        only the candidates keep it from committing."""
        return self.track.due or (certified and bool(self.track.candidates))

    def decode(self, certified: bool, now_s: float) -> None:
        """One more token; certified: the size of this step is."""
        self.waited += self.due(certified)
        if certified and self.track.settled:
            self.track, _ = step(self.track, Stepped(RIGHT))
            self.deliver(1, now_s)
        else:
            self._propose()

    def verify(self, now_s: float) -> int:
        """A pass over the page has run; returns how many candidates it dropped."""
        rows = self.track.due_span.end - self.track.canonical_len
        track, action = step(self.track, Verified([RIGHT] * rows))
        self.track = self._rebased(track)
        self.waited = 0
        self.deliver(len(action.commit), now_s)
        return action.dropped

    def as_due(self) -> "Due[Deterministic]":
        return Due(self, self.track.ahead, self.waited, self.track.finish_suspected)

    def _propose(self) -> None:
        """One more candidate."""
        self._until_flip -= 1
        wrong = self._until_flip < 0
        if wrong:
            self._until_flip = self._draw()
        last = self.delivered + len(self.track.candidates) + 1 >= self.arrival.output_len
        self.track, _ = step(self.track, Proposed(WRONG if wrong else RIGHT, may_finish=last))

    def _rebased(self, track: Track) -> Track:
        """A sliding window is a page that starts at the last committed token."""
        return replace(track, committed_len=1, canonical_len=0) if self.sliding else track

    def _draw(self) -> float:
        """Right candidates before the next wrong one."""
        if not self._flip_rate:
            return inf
        if self._flip_rate >= 1:
            return 0
        return log(1 - self._random.random()) // log(1 - self._flip_rate)
