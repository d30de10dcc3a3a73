"""The loop of a server: prefill whoever fits, run the passes the policy asks for, decode a step."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from llm42_sglang.core.policy import Due
from llm42_sglang.simulator.admission import next_prefill
from llm42_sglang.simulator.costs import CostModel
from llm42_sglang.simulator.request import Deterministic, Request
from llm42_sglang.simulator.systems import System
from llm42_sglang.simulator.workload import Arrival, Workload


@dataclass(slots=True)
class Totals:
    """Of one run; times in seconds."""

    decode_s: float = 0.0
    prefill_s: float = 0.0  # the passes of deterministic prefill included
    verify_s: float = 0.0  # passes run for verification
    verify_passes: int = 0
    verify_slots: int = 0  # used in those
    filled_slots: int = 0  # verifications in spare slots of prefill passes
    most_passes: int = 0  # for verification, between two decode steps
    decode_steps: int = 0
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
        return Deterministic(
            arrival, self.system.page, self.system.sliding, self.workload.flip_rate
        )

    # Prefill

    def _next_prefill(self) -> list[Request]:
        """Removed from the queue."""
        free = self.system.max_running - len(self.running)
        if not free:
            return []
        arrived = [request for request in self.waiting if request.arrival.at_s <= self.now_s]
        batch = next_prefill(arrived, self.system, free)
        taken = set(batch)
        self.waiting = [request for request in self.waiting if request not in taken]
        return batch

    def _prefill(self, batch: list[Request]) -> None:
        canonical = batch[0].arrival.deterministic and not self.system.prefill_alone
        riders = self._prefill_canonically(batch) if canonical else []
        if not canonical:
            prompts = sum(request.arrival.prompt_len for request in batch)
            self._spend("prefill_s", self.costs.prefill_s(prompts))
        self._commit(riders)
        for request in batch:
            if isinstance(request, Deterministic):
                request.born(self.now_s)
            else:
                request.deliver(1, self.now_s)
        self.running += batch
        self._retire()

    def _prefill_canonically(self, batch: list[Request]) -> list[Deterministic]:
        """Prompts as slots of passes; returns who was verified in the spare slots."""
        group, page = self.system.policy.group, self.system.page
        slots = sum(-(-request.arrival.prompt_len // page) for request in batch)
        passes = -(-slots // group)
        riders = self.system.policy.fill(self._due(), passes * group - slots)
        self.totals.filled_slots += len(riders)
        full_s = self.costs.pass_s(self.system.pass_rows(group))
        last_s = self.costs.pass_s(
            self.system.pass_rows(slots + len(riders) - (passes - 1) * group)
        )
        self._spend("prefill_s", (passes - 1) * full_s + last_s)
        return riders

    # Verification

    def _verify(self) -> None:
        passes = 0
        while riders := self.system.policy.choose(self._due(), passes, self._decoding()):
            passes += 1
            self._spend("verify_s", self.costs.pass_s(self.system.pass_rows(len(riders))))
            self.totals.verify_slots += len(riders)
            self._commit(riders)
            self._retire()
        self.totals.verify_passes += passes
        self.totals.most_passes = max(self.totals.most_passes, passes)

    def _due(self) -> list[Due[Deterministic]]:
        return [request.as_due() for request in self._deterministic() if request.track.due]

    def _decoding(self) -> int:
        return len(self._deterministic())

    def _deterministic(self) -> list[Deterministic]:
        return [request for request in self.running if isinstance(request, Deterministic)]

    def _commit(self, riders: Sequence[Deterministic]) -> None:
        for request in riders:
            self.totals.rolled_back += request.verify(self.now_s).dropped

    # Decode

    def _decode(self) -> None:
        """One step of everybody who runs."""
        if not self.running:
            return
        self._spend("decode_s", self.costs.decode_s(len(self.running)))
        self.totals.decode_steps += 1
        for request in self.running:
            if isinstance(request, Deterministic):
                request.decode()
                self.totals.candidates += 1
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
