"""A server under load, without an engine: the real protocol and policy, a cost model for time.

It answers questions of proportion (how full are passes, who waits, which T and G), not of absolute
speed. Read in this order: traffic, costs, systems, one request, admission, the loop, the report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, log
from random import Random
from statistics import linear_regression, mean
from typing import NamedTuple

from llm42_sglang.cli.bench.outcome import percentiles
from llm42_sglang.core.policy import Due, LanePolicy
from llm42_sglang.core.track import Action, Born, Prefilled, Proposed, Track, Verified, step

# -- Traffic: who asks for what, and when --


class Arrival(NamedTuple):
    """One request, before it is served."""

    at_s: float
    prompt_len: int  # tokens
    output_len: int  # tokens
    deterministic: bool
    seed: int  # of its flips: the same request errs alike in every system


@dataclass(frozen=True, slots=True)
class Workload:
    """Traffic. Lengths are uniform between half the mean and one and a half times it (a guess)."""

    requests: int = 1000
    rate_per_s: float = 0.0  # Poisson; 0: all at once, an offline batch
    prompt_mean: int = 512  # tokens
    output_mean: int = 256  # tokens
    deterministic_share: float = 1.0  # of requests
    # Probability that a candidate differs from the verifier's token. Fitted: with 0.4 % the sliding
    # windows of 16 to 256 tokens recompute 3.0, 6.3, 13.5, 27.6 and 58.7 % of the output; LLM-42
    # measured 2.9, 6.7, 14, 29 and 60 %. This project's plain CPU shows 0.5 % with fp32 logits.
    flip_rate: float = 0.004
    seed: int = 0

    def arrivals(self) -> list[Arrival]:
        """The same list every time."""
        random = Random(self.seed)
        now_s = 0.0
        arrivals = []
        for number in range(self.requests):
            now_s += random.expovariate(self.rate_per_s) if self.rate_per_s else 0.0
            prompt, output = (
                random.randint(max(1, mean // 2), mean + mean // 2)
                for mean in (self.prompt_mean, self.output_mean)
            )
            deterministic = random.random() < self.deterministic_share
            arrivals.append(Arrival(now_s, prompt, output, deterministic, number))
        return arrivals


# -- Costs --


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds. The defaults stand for an 8B model in bf16 on one H100.

    They are guesses from data sheets, not measurements. Base: 16 GB of weights at 3.35 TB/s are
    4.8 ms; launches, sampling and scheduling make it 7. A decode row reads about 1000 tokens of KV,
    131 KB each: 0.04 ms. A prefill token or a pass's row is 16 GFLOP at 650 TFLOP/s: 0.025 ms. A
    pass also drains the overlapped loop and moves its results: 2 ms. So a pass of 512 rows costs as
    much as two decode steps of a full batch. Attention to long contexts is not modelled.
    """

    decode_base_s: float = 7e-3
    decode_row_s: float = 40e-6
    prefill_base_s: float = 7e-3
    prefill_token_s: float = 25e-6
    pass_base_s: float = 9e-3
    pass_row_s: float = 25e-6

    @classmethod
    def through(cls, decode: Mapping[int, float], passes: Mapping[int, float]) -> "CostModel":
        """Straight lines through measured forwards, by least squares.

        decode: seconds by requests; passes: seconds by rows. An ordinary prefill is taken to cost
        what a pass of as many rows does.
        """
        decode_row_s, decode_base_s = _line(decode)
        row_s, base_s = _line(passes)
        return cls(
            decode_base_s=decode_base_s,
            decode_row_s=decode_row_s,
            prefill_base_s=base_s,
            prefill_token_s=row_s,
            pass_base_s=base_s,
            pass_row_s=row_s,
        )

    def decode_s(self, rows: int) -> float:
        """One decode step of `rows` requests."""
        return self.decode_base_s + self.decode_row_s * rows

    def prefill_s(self, tokens: int) -> float:
        """One ordinary prefill forward."""
        return self.prefill_base_s + self.prefill_token_s * tokens

    def pass_s(self, rows: int) -> float:
        """One canonical pass of M = G*T rows, whatever is in it."""
        return self.pass_base_s + self.pass_row_s * rows


def _line(points: Mapping[int, float]) -> tuple[float, float]:
    """Slope and intercept, neither negative; flat through a single point."""
    if len(points) == 1:
        return 0.0, next(iter(points.values()))
    slope, intercept = linear_regression(list(points), list(points.values()))
    return max(0.0, slope), max(0.0, intercept)  # nothing is gained by work


# As `llm42 bench passes` measures them, in seconds: "pass" by slots and page index, "decode" by
# requests and context.
Costs = Mapping[str, Mapping[str, Mapping[str, float]]]


def cost_model(page: int, costs: Costs) -> CostModel:
    """Straight lines through the means over pages and contexts; page: T of the measured passes."""
    decode = {int(requests): mean(by.values()) for requests, by in costs["decode"].items()}
    passes = {int(slots) * page: mean(by.values()) for slots, by in costs["pass"].items()}
    return CostModel.through(decode, passes)


# -- Systems that are compared --

# LLM-42's window x group ablation: what it ran, and the tokens recomputed per output token.
ABLATION = ((16, 32), (32, 16), (64, 8), (128, 8), (256, 1))
PAPER_RECOMPUTE = (0.029, 0.067, 0.14, 0.29, 0.60)


@dataclass(frozen=True, slots=True)
class System:
    """A way to serve deterministic requests."""

    name: str
    page: int  # T, tokens; the window where windows slide
    policy: LanePolicy
    sliding: bool = False  # windows start at the last committed token, not at multiples of T
    prefill_alone: bool = False  # a deterministic prompt is a forward of its own
    max_running: int = 128  # requests decoding at once
    prefill_tokens: int = 8192  # of one prefill batch, unless a single prompt is longer
    narrow: bool = False  # passes may have fewer slots than G, a power of two

    def pass_rows(self, pages: int) -> int:
        """Rows of a pass over so many pages: M = G*T, or fewer."""
        width = 1 << (pages - 1).bit_length() if self.narrow else self.policy.group
        return min(width, self.policy.group) * self.page


def ours(page: int, group: int) -> System:
    """Aligned pages, prefill and verification in one lane, run-ahead of up to a page."""
    policy = LanePolicy(group=group, wait_steps=page // 2, run_ahead=page)
    return System(f"aligned {page}x{group}", page, policy)


def without_run_ahead(system: System) -> System:
    """A due request waits for its pass, and the pass for nobody."""
    policy = replace(system.policy, run_ahead=0)
    return replace(system, name=f"{system.name}, no run-ahead", policy=policy)


def sliding(window: int, group: int) -> System:
    """The same with LLM-42's windows, which slide with the rollbacks."""
    aligned = ours(window, group)
    return replace(aligned, name=f"sliding {window}x{group}", sliding=True)


def synchronous(window: int) -> System:
    """LLM-42's artifact as this project reads it (docs/comparison.md).

    Each request is verified alone as soon as its window is full, while all others wait, and
    deterministic prompts are prefilled one by one.
    """
    policy = LanePolicy(group=1, wait_steps=0, run_ahead=0)
    name = f"synchronous {window}x1"
    return System(name, window, policy, sliding=True, prefill_alone=True)


# -- One request: a candidate has no id, it is right or wrong --

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
        """A run of tokens reaches the client; what is past the end of the output does not."""
        if not self.delivered:
            self.first_s = now_s
        else:
            self.gaps_s.append(now_s - self.last_s)
        self.delivered = min(self.delivered + tokens, self.arrival.output_len)
        self.last_s = now_s


class Deterministic(Request):
    """Its decoded tokens are candidates of a real track until a pass has confirmed them."""

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

    def decode(self) -> None:
        """One more candidate."""
        track = self.track
        self.waited += track.due
        self._until_flip -= 1
        wrong = self._until_flip < 0
        if wrong:
            self._until_flip = self._draw()
        last = self.delivered + len(track.candidates) + 1 >= self.arrival.output_len
        self.track, _ = step(track, Proposed(WRONG if wrong else RIGHT, may_finish=last))

    def verify(self, now_s: float) -> Action:
        """A pass over the due page has run."""
        rows = self.track.due_span.end - self.track.canonical_len
        track, action = step(self.track, Verified([RIGHT] * rows))
        self.track = self._rebased(track)
        self.waited = 0
        self.deliver(len(action.commit), now_s)
        return action

    def as_due(self) -> "Due[Deterministic]":
        return Due(self, self.track.ahead, self.waited, self.track.finish_suspected)

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


# -- Admission --


def next_prefill(waiting: Sequence[Request], system: System, free: int) -> list[Request]:
    """First come, first served, of the first one's kind; `free`: requests that may still run."""
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


# -- The loop: prefill whoever fits, run the passes the policy asks for, decode a step --


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


# -- What a run is judged by --


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds, as clients of one kind see them; None where there are none."""

    requests: int
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    gap_p50_s: float | None  # between two deliveries; a committed run is one delivery
    gap_p99_s: float | None
    per_token_p50_s: float | None  # of a request, from its first token to its last
    per_token_p99_s: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """One system under one workload."""

    system: str
    output_tokens_per_s: float
    recompute_rate: float  # candidates rolled back / candidates decoded
    recompute_per_output: float  # candidates rolled back / output tokens: LLM-42's measure
    verify_passes: int
    slots_per_pass: float  # used, mean, in passes run for verification
    filled_slots: int  # verifications that rode in prefill passes
    verify_share: float  # of busy time
    most_passes: int  # between two decode steps
    deterministic: Latency
    ordinary: Latency


def simulate(system: System, workload: Workload, costs: CostModel | None = None) -> Report:
    """Serve `workload` on `system`; the same arguments give the same report."""
    server = Server(system, workload, costs or CostModel())
    server.run()
    return _report(server)


def _report(server: Server) -> Report:
    totals, done = server.totals, server.done
    output = sum(request.delivered for request in done)
    deterministic = [request for request in done if request.arrival.deterministic]
    busy_s = totals.decode_s + totals.prefill_s + totals.verify_s
    return Report(
        system=server.system.name,
        output_tokens_per_s=output / server.now_s,
        recompute_rate=_ratio(totals.rolled_back, totals.candidates),
        recompute_per_output=_ratio(totals.rolled_back, sum(r.delivered for r in deterministic)),
        verify_passes=totals.verify_passes,
        slots_per_pass=_ratio(totals.verify_slots, totals.verify_passes),
        filled_slots=totals.filled_slots,
        verify_share=_ratio(totals.verify_s, busy_s),
        most_passes=totals.most_passes,
        deterministic=_latency(deterministic),
        ordinary=_latency([request for request in done if not request.arrival.deterministic]),
    )


def _latency(requests: Sequence[Request]) -> Latency:
    ttft = [request.first_s - request.arrival.at_s for request in requests]
    gaps = [gap for request in requests for gap in request.gaps_s]
    per_token = [
        (request.last_s - request.first_s) / (request.delivered - 1)
        for request in requests
        if request.delivered > 1
    ]
    parts = map(percentiles, (ttft, gaps, per_token))
    return Latency(len(requests), *(part[name] for part in parts for name in ("p50", "p99")))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
