"""What a run is judged by."""

from collections.abc import Sequence
from dataclasses import dataclass

from llm42_sglang.cli.bench.outcome import percentiles
from simulator.costs import CostModel
from simulator.request import Deterministic, Request
from simulator.server import Server
from simulator.systems import System
from simulator.workload import Workload


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds, as clients of one kind see them; None where there are none."""

    requests: int
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    gap_p50_s: float | None  # between two deliveries; what a pass commits is one delivery
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
    canonical_step_rate: float  # of deterministic output, committed in canonical steps
    verify_passes: int
    slots_per_pass: float  # used, mean, in passes run for verification
    verify_share: float  # of busy time
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
    deterministic = [request for request in done if isinstance(request, Deterministic)]
    committed = sum(request.delivered for request in deterministic)
    stepped = sum(request.track.canonical_steps for request in deterministic)
    busy_s = totals.decode_s + totals.prefill_s + totals.verify_s
    return Report(
        system=server.system.name,
        output_tokens_per_s=output / server.now_s,
        recompute_rate=_ratio(totals.rolled_back, totals.candidates),
        recompute_per_output=_ratio(totals.rolled_back, committed),
        canonical_step_rate=_ratio(stepped, committed),
        verify_passes=totals.verify_passes,
        slots_per_pass=_ratio(totals.verify_slots, totals.verify_passes),
        verify_share=_ratio(totals.verify_s, busy_s),
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
