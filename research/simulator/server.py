"""The loop: prefill whoever fits, run the passes that the policy asks for, decode a step."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from llm42_sglang.core.policy import Due
from simulator.costs import CostModel
from simulator.request import Deterministic, Request
from simulator.systems import System
from simulator.workload import Arrival, Workload


@dataclass(slots=True)
class Totals:
    """Of one run; times in seconds."""

    decode_s: float = 0.0
    prefill_s: float = 0.0  # the passes of deterministic prefill included
    verify_s: float = 0.0  # passes run for verification
    verify_passes: int = 0
    verify_slots: int = 0  # used in those
    candidates: int = 0
    rolled_back: int = 0  # candidates


@dataclass(eq=False)
class Server:
    """One system that serves one workload."""

    system: System
    workload: Workload
    costs: CostModel
    now_s: float = 0.0
    totals: Totals = field(default_factory=Totals)
    running: list[Request] = field(default_factory=list)
    done: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.waiting = [self._make(arrival) for arrival in self.workload.arrivals()]

    def run(self) -> None:
        """Serve everybody."""
        while self.waiting or self.running:
            if not self.running:
                self.now_s = max(self.now_s, self.waiting[0].arrival.at_s)
            while batch := self._next_prefill():
                self._prefill(batch)
            self._verify()
            self._decode()

    def _make(self, arrival: Arrival) -> Request:
        if not arrival.deterministic:
            return Request(arrival)
        system = self.system
        return Deterministic(arrival, system.page, system.sliding, self.workload.flip_rate)

    # -- Prefill --

    def _next_prefill(self) -> list[Request]:
        """Removed from the queue."""
        free = self.system.max_running - len(self.running)
        if not free:
            return []
        arrived = [request for request in self.waiting if request.arrival.at_s <= self.now_s]
        batch = prefill_batch(arrived, self.system, free)
        taken = set(batch)
        self.waiting = [request for request in self.waiting if request not in taken]
        return batch

    def _prefill(self, batch: list[Request]) -> None:
        canonical = batch[0].arrival.deterministic and not self.system.prefill_alone
        verified = self._prefill_canonically(batch) if canonical else []
        if not canonical:
            prompts = sum(request.arrival.prompt_len for request in batch)
            self._spend("prefill_s", self.costs.prefill_s(prompts))
        self._commit(verified)
        for request in batch:
            if isinstance(request, Deterministic):
                request.born(self.now_s)
            else:
                request.deliver(1, self.now_s)
        self.running += batch
        self._retire()

    def _prefill_canonically(self, batch: list[Request]) -> list[Deterministic]:
        """Run the prompts' pages in passes; returns whose pages took the free slots."""
        group, page = self.system.policy.group, self.system.page
        slots = sum(-(-request.arrival.prompt_len // page) for request in batch)
        passes = -(-slots // group)
        to_verify = self.system.policy.fill(self._due(), passes * group - slots)
        full_s = self.costs.pass_s(self.system.pass_rows(group))
        last = slots + len(to_verify) - (passes - 1) * group
        last_s = self.costs.pass_s(self.system.pass_rows(last))
        self._spend("prefill_s", (passes - 1) * full_s + last_s)
        return to_verify

    # -- Verification --

    def _verify(self) -> None:
        passes = 0
        while to_verify := self.system.policy.choose(self._due(), passes, self._with_candidates()):
            passes += 1
            self._spend("verify_s", self.costs.pass_s(self.system.pass_rows(len(to_verify))))
            self.totals.verify_slots += len(to_verify)
            self._commit(to_verify)
            self._retire()
        self.totals.verify_passes += passes

    def _due(self) -> list[Due[Deterministic]]:
        certified = self._certified()
        return [request.as_due() for request in self._deterministic() if request.due(certified)]

    def _with_candidates(self) -> int:
        return sum(bool(request.track.candidates) for request in self._deterministic())

    def _deterministic(self) -> list[Deterministic]:
        return [request for request in self.running if isinstance(request, Deterministic)]

    def _commit(self, verified: Sequence[Deterministic]) -> None:
        for request in verified:
            self.totals.rolled_back += request.verify(self.now_s)

    # -- Decode --

    def _certified(self) -> bool:
        """Whether the rows of the next decode step are canonical."""
        return len(self.running) in self.system.certified

    def _decode(self) -> None:
        """One step of everybody who runs."""
        if not self.running:
            return
        certified = self._certified()
        self._spend("decode_s", self.costs.decode_s(len(self.running)))
        for request in self.running:
            if isinstance(request, Deterministic):
                self.totals.candidates += not (certified and request.track.settled)
                request.decode(certified, self.now_s)
            else:
                request.deliver(1, self.now_s)
        self._retire()

    def _retire(self) -> None:
        """Finished requests leave, with whatever they decoded past their end."""
        if any(request.finished for request in self.running):
            self.done += [request for request in self.running if request.finished]
            self.running = [request for request in self.running if not request.finished]

    def _spend(self, what: str, seconds: float) -> None:
        self.now_s += seconds
        setattr(self.totals, what, getattr(self.totals, what) + seconds)


def prefill_batch(waiting: Sequence[Request], system: System, free: int) -> list[Request]:
    """First come, first served, of the first one's kind; free: how many more may run."""
    batch: list[Request] = []
    room = system.prefill_tokens
    for request in waiting:
        if len(batch) == free or (batch and not _may_join(request, batch, system, room)):
            break
        if request.arrival.deterministic == (batch or [request])[0].arrival.deterministic:
            batch.append(request)
            room -= request.arrival.prompt_len
    return batch


def _may_join(request: Request, batch: Sequence[Request], system: System, room: int) -> bool:
    alone = system.prefill_alone and batch[0].arrival.deterministic
    return not alone and request.arrival.prompt_len <= room
