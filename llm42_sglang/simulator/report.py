"""What a run is judged by."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llm42_sglang.simulator.costs import CostModel
from llm42_sglang.simulator.request import Request
from llm42_sglang.simulator.server import Server
from llm42_sglang.simulator.systems import System
from llm42_sglang.simulator.workload import Workload


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
    ttft = sorted(request.first_s - request.arrival.at_s for request in requests)
    gaps = sorted(gap for request in requests for gap in request.gaps_s)
    per_token = sorted(
        (request.last_s - request.first_s) / (request.delivered - 1)
        for request in requests
        if request.delivered > 1
    )
    parts: Iterable[Sequence[float]] = (ttft, gaps, per_token)
    return Latency(len(requests), *(_percentile(p, q) for p in parts for q in (0.5, 0.99)))


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank."""
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else None


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
