"""`llm42 bench passes`: what canonical passes cost for T and G, and which flags are best."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Annotated, Any, NamedTuple

import typer

from llm42_sglang.cli.bench import options, report, servers
from llm42_sglang.cli.bench.workload import Source
from llm42_sglang.cli.launch import tail
from llm42_sglang.cli.output import Out, require_writable, say, table
from llm42_sglang.core.config import PAGE_SIZES
from llm42_sglang.errors import UserError

MEASURE = (sys.executable, "-m", "llm42_sglang.engine.start.costs")
SLACK = 1.15  # cost of a page in the recommended group over that in the cheapest, at most

Pages = Annotated[str, typer.Option(help="T, with commas; the model is loaded for each.")]
# Seconds: under "pass" by slots and page index, under "decode" by requests and context.
CostTable = Mapping[str, Mapping[str, Mapping[str, float]]]


def passes(
    context: typer.Context,
    pages: Pages = "16,32,64",
    in_flight: options.InFlight = 16,
    model: options.Model = None,
    out: Out = None,
) -> None:
    """Measure what canonical passes and decode steps cost, and recommend flags for `llm42 serve`.

    The model is loaded without a server. Other flags are passed on to SGLang.
    """
    sizes = [int(page) for page in options.numbers("--pages", pages, 1, max(PAGE_SIZES))]
    if wrong := [page for page in sizes if page not in PAGE_SIZES]:
        choices = ", ".join(map(str, PAGE_SIZES))
        raise UserError(f"--pages {wrong[0]} is not supported; choose from {choices}")
    require_writable(out)
    source = Source.of("1", "1", model, 0)
    flags = servers.Flags.of(source.model, context.args, 0)
    if flags.ours:
        raise UserError(f"{flags.ours[0]} is what `bench passes` recommends; leave it out")
    workload = {"model": source.model.name, "in_flight": in_flight, "flags": flags.text}
    costs = {str(page): measure(flags, page, in_flight) for page in sizes}
    advice = {page: recommended(int(page), of_page, in_flight) for page, of_page in costs.items()}
    report.show("one forward", workload, COST_COLUMNS, list(_cost_rows(costs)))
    columns = ("flags for `llm42 serve`", "ms a token, decoded", "verified", "tokens/s of stock's")
    rows = [(a.flags, 1e3 * a.decode_s, 1e3 * a.verify_s, a.of_stock) for a in advice.values()]
    table(f"recommended, {in_flight} deterministic requests in flight", columns, rows)
    result = {"recommended": {page: of_page._asdict() for page, of_page in advice.items()}}
    report.finish({"costs_s": costs, **result}, workload, out)


def measure(flags: servers.Flags, page: int, in_flight: int) -> CostTable:
    """Measure the costs for T = `page` in a process of its own. Raises UserError."""
    log_path = servers.log_path("passes")
    say(f"loading the model with T = {page}, and measuring it; log: {log_path}")
    log_path.parent.mkdir(parents=True, exist_ok=True)
    command = [*MEASURE, str(page), str(in_flight), *flags.common]
    with log_path.open("w") as log:
        process = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True)
    if process.returncode:
        last = "".join(tail(log_path, 1)) or f"status {process.returncode}"
        raise UserError(f"no costs were measured: {last.removeprefix('llm42: error: ')}")
    return json.loads(process.stdout.splitlines()[-1])


class Advice(NamedTuple):
    """Flags, and the seconds that a deterministic request's token then costs."""

    page: int
    group: int
    wait: int
    decode_s: float
    verify_s: float

    @property
    def flags(self) -> str:
        """The flags as `llm42 serve` takes them."""
        return f"--llm42-page {self.page} --llm42-group {self.group} --llm42-wait {self.wait}"

    @property
    def of_stock(self) -> float:
        """Throughput over stock's if all requests are deterministic and every token is verified."""
        return self.decode_s / (self.decode_s + self.verify_s)


def recommended(page: int, costs: CostTable, in_flight: int) -> Advice:
    """The recommended G and wait for T = `page`. Raises UserError if too little was measured.

    A page costs least in a wide pass, but a wide pass delays all requests for longest. So G is the
    smallest for which a page costs at most SLACK times the least cost.

    Of `in_flight` requests one fills a page every T / in_flight steps, so a page waits as long as G
    pages need to fill. With a pass in each step, serving every request takes in_flight / G steps. A
    page waits at least that long (`core.policy`).
    """
    page_s = {
        int(slots): mean(by_page.values()) / int(slots)
        for slots, by_page in costs["pass"].items()
        if int(slots) <= in_flight
    }
    if not page_s or not costs["decode"]:
        raise UserError("too little room for a pass; raise --max-total-tokens")
    limit_s = SLACK * min(page_s.values())
    group = min(slots for slots, seconds in page_s.items() if seconds <= limit_s)
    wait = max(math.ceil(page * group / in_flight), math.ceil(in_flight / group))
    requests = max(map(int, costs["decode"]))
    decode_s = mean(costs["decode"][str(requests)].values()) / requests
    return Advice(page, group, min(page, wait), decode_s, page_s[group] / page)


COST_COLUMNS = ("T", "forward", "slots or requests", "page or context", "ms", "ms per row")


def _cost_rows(costs: Mapping[str, CostTable]) -> Iterator[Sequence[Any]]:
    for page, kinds in costs.items():
        for kind, by_width in kinds.items():
            for width, places in by_width.items():
                rows = int(width) * (int(page) if kind == "pass" else 1)
                for place, seconds in places.items():
                    yield page, kind, width, place, 1e3 * seconds, 1e3 * seconds / rows
