"""`llm42 bench passes`: what a canonical pass costs, and what T and G do to recomputation."""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from llm42_sglang.cli.bench import options, report, servers
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.progress import say
from llm42_sglang.core.config import GROUPS, PAGE_SIZES, Config
from llm42_sglang.core.policy import LanePolicy
from llm42_sglang.simulator.measured import Costs
from llm42_sglang.simulator.report import simulate
from llm42_sglang.simulator.systems import System, ours
from llm42_sglang.simulator.workload import Workload

COSTS = re.compile(r"llm42: costs (\{.*\})")  # logged once by `llm42 serve --llm42-tune`
WAIT_S = 10  # after the server is healthy, for a line that is still on its way
SIMULATED_IN_FLIGHT = 16


def passes(
    context: typer.Context,
    pages: Annotated[str, typer.Option(help="T, with commas; a server is started for each.")] = (
        "16,32,64"
    ),
    groups: Annotated[str, typer.Option(help="G of the simulated servers, with commas.")] = (
        "1,4,8,16"
    ),
    simulated: Annotated[
        int, typer.Option("--simulated-requests", min=1, help="In each simulated run.")
    ] = 200,
    flip_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Wrong candidates, simulated.")
    ] = 0.004,
    measure: Annotated[bool, typer.Option(help="Start servers; if not, simulate only.")] = True,
    model: options.Model = None,
    out: options.Out = None,
    plot: options.Plot = None,
    page: options.Page = None,
) -> None:
    """Cost of a canonical pass and of a decode step for T and G; recomputation, simulated.

    Costs are measured by `llm42 serve --llm42-tune` on the loaded model. Recomputation comes from
    the simulator: the real protocol and policy, a cost model and a flip rate. Flags that are not
    known here go to the servers.
    """
    sizes = _choices("--pages", pages, PAGE_SIZES)
    slots = _choices("--groups", groups, GROUPS)
    report.require_writable(out, plot, page)
    costs: dict[str, Costs] = {}
    traffic = f"{simulated} requests, {SIMULATED_IN_FLIGHT} in flight, flip rate {flip_rate:g}"
    workload: dict[str, Any] = {"simulated": traffic}
    if measure:
        source = options.Source.of(options.mix_of("1", "1", None), model, None, 0)
        flags = servers.Flags.of(source.model, context.args, 0)
        workload["model"] = source.model.name
        costs = {str(page): measured(flags, page) for page in sizes}
    rates = recompute_rates(sizes, slots, simulated, flip_rate)
    result = {"costs_s": costs, "recompute_rate": rates}
    shown = []
    if costs:
        shown.append(
            report.show("measured: one forward", workload, COST_COLUMNS, list(_cost_rows(costs)))
        )
    columns = ("T", *(f"G = {group}" for group in slots))
    rows = [(page, *(f"{100 * rate:.1f} %" for rate in by.values())) for page, by in rates.items()]
    title = "simulated: candidates rolled back / decoded"
    shown.append(report.show(title, workload, columns, rows))
    picture = partial(draw, costs=costs, rates=rates)
    report.plot(plot, 3, picture)
    report.page(page, "passes", workload, shown, 3, picture)
    report.finish(result, workload, out)


def measured(flags: servers.Flags, page: int) -> Costs:
    """Costs of one server with T = `page`."""
    process = servers.ours(flags, "--llm42-page", str(page), "--llm42-tune")
    say(f"starting a server with T = {page}; it measures itself; log: {process.log_path}")
    with process:
        deadline = time.monotonic() + WAIT_S
        while (costs := find_costs(process.log_path)) is None:
            if time.monotonic() > deadline:
                raise UserError(f"the server logged no costs: {process.log_path}")
            time.sleep(0.2)
    return costs


def find_costs(log: Path) -> Costs | None:
    """The last costs in a log. Raises UserError if they are not what they should be."""
    found = COSTS.findall(log.read_text(errors="replace"))
    if not found:
        return None
    try:
        costs = json.loads(found[-1])
        return {
            kind: {
                rows: {place: float(seconds) for place, seconds in places.items()}
                for rows, places in costs[kind].items()
            }
            for kind in ("pass", "decode")
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{log} has malformed costs: {error!r}") from None


def recompute_rates(
    pages: Sequence[int], groups: Sequence[int], requests: int, flip_rate: float
) -> dict[str, dict[str, float]]:
    """Candidates rolled back over candidates decoded, by T and G."""
    traffic = Workload(
        requests=requests, prompt_mean=272, output_mean=128, flip_rate=flip_rate, seed=1
    )
    return {
        str(page): {
            str(group): simulate(_system(page, group), traffic).recompute_rate for group in groups
        }
        for page in pages
    }


def _system(page: int, group: int) -> System:
    """Our lane with the server's default patience, SIMULATED_IN_FLIGHT requests at once."""
    patience = Config()
    policy = LanePolicy(group, patience.wait, min(patience.run_ahead, page))
    return replace(ours(page, group), policy=policy, max_running=SIMULATED_IN_FLIGHT)


COST_COLUMNS = ("T", "forward", "slots or requests", "page or context", "ms", "ms per row")


def _cost_rows(costs: Mapping[str, Costs]) -> Iterator[Sequence[Any]]:
    for page, kinds in costs.items():
        for kind, by_width in kinds.items():
            for width, places in by_width.items():
                rows = int(width) * (int(page) if kind == "pass" else 1)
                for place, seconds in places.items():
                    yield page, kind, width, place, 1e3 * seconds, 1e3 * seconds / rows


def draw(
    axes: Sequence[Any],
    costs: Mapping[str, Costs],
    rates: Mapping[str, Mapping[str, float]],
) -> None:
    """Passes by rows, decode steps by requests (nearest context), recomputation by T."""
    by_rows, by_requests, recomputed = axes
    for page, kinds in costs.items():
        _lines(by_rows, kinds["pass"], int(page), f"T = {page}, page ")
        _lines(by_requests, kinds["decode"], 1, f"T = {page}, context ")
    for group in next(iter(rates.values())):
        line = [100 * by_group[group] for by_group in rates.values()]
        recomputed.plot(list(rates), line, marker="o", label=f"G = {group}")
    by_rows.set(xlabel="rows of a canonical pass", ylabel="ms", ylim=(0, None))
    by_requests.set(xlabel="requests of a decode step", ylabel="ms", ylim=(0, None))
    recomputed.set(xlabel="T", ylabel="candidates rolled back, % (simulated)", ylim=(0, None))
    for panel in axes:
        if panel.lines:
            panel.legend(fontsize="x-small")


def _lines(
    panel: Any, by_width: Mapping[str, Mapping[str, float]], rows_each: int, label: str
) -> None:
    """A line for each place: milliseconds by rows."""
    places = dict.fromkeys(place for by_place in by_width.values() for place in by_place)
    for place in places:
        points = [
            (int(w) * rows_each, 1e3 * by[place]) for w, by in by_width.items() if place in by
        ]
        panel.plot(*zip(*sorted(points), strict=True), marker="o", label=f"{label}{place}")


def _choices(flag: str, text: str, allowed: Sequence[int]) -> list[int]:
    found = options.numbers(flag, text, min(allowed), max(allowed))
    if wrong := [number for number in found if number not in allowed]:
        choices = ", ".join(map(str, allowed))
        raise UserError(f"{flag} {wrong[0]:g} is not supported; choose from {choices}")
    return [int(number) for number in found]
