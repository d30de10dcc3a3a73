"""`llm42 bench latency`: what clients wait for, ours and stock at the same load."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Annotated, Any

import typer

from llm42_sglang.cli.bench import load, options, report, servers
from llm42_sglang.cli.bench.load import Load, Measured, Target
from llm42_sglang.cli.bench.outcome import Outcome, percentiles, ratio, recompute, time_s
from llm42_sglang.cli.bench.workload import Source, mark
from llm42_sglang.cli.output import cell, require_writable
from llm42_sglang.errors import UserError

KINDS = ("deterministic", "ordinary")
METRICS = {  # each in seconds, by its name in the JSON; see `outcome` for the definitions
    "ttft": lambda outcome: [outcome.ttft_s],
    "gap": lambda outcome: outcome.gaps_s,
    "itl": lambda outcome: outcome.inter_token_s,
    "e2e": lambda outcome: [outcome.end_to_end_s],
}
RATIOS = (  # of 99th percentiles: name in the JSON, metric, kinds of requests
    ("p99_ttft_ratio", "ttft", KINDS),
    ("p99_itl_ordinary_ratio", "itl", ("ordinary",)),
    ("p99_gap_ordinary_ratio", "gap", ("ordinary",)),
)

# By load, share and server: by kind.
Outcomes = dict[tuple[str, float, str], dict[str, list[Outcome]]]


def latency(
    context: typer.Context,
    loads: Annotated[
        str,
        typer.Option(
            help="With commas: `closed` (--in-flight, all at once, then a request for each answer),"
            " or Poisson arrivals: requests/s, or percent of what stock answers in the closed"
            " loop, such as 60%."
        ),
    ] = "closed,60%",
    shares: options.Shares = "50,100",
    requests: options.Requests = 48,
    in_flight: options.InFlight = 16,
    prompt: options.Prompt = "32-512",
    new: options.New = "128",
    rounds: options.Rounds = 2,
    model: options.Model = None,
    seed: options.Seed = 0,
    out: options.Out = None,
) -> None:
    """Time to first token, between tokens and end to end, of deterministic and ordinary requests.

    Both servers get the same requests, Poisson ones at the same times, one server after the other.
    Percentiles are over the requests of all rounds. Flags that are not known here go to the
    servers.
    """
    wanted = options.numbers("--shares", shares, 0, 100)
    asked = parse_loads(loads, in_flight)
    if any(one.percent for one in asked):
        options.require_full_loop(requests, in_flight)
    require_writable(out)
    source = Source.of(prompt, new, model, seed)
    source.requests(requests)
    flags = servers.Flags.of(source.model, context.args, 2 * in_flight * source.most_tokens)
    with servers.running(stock=servers.stock(flags), llm42=servers.ours(flags)) as targets:
        for target in targets.values():
            load.run(target, mark(source.requests(4), 50), Load.closed(4), "warming up")
        found = settle(asked, targets["stock"], source, requests, in_flight)
        measured: Measured = {}
        for number in range(rounds):
            measured |= load.one_round(number, targets, source, found, wanted, requests)
    rates = {one.name: one.rate_per_s for one in found if one.rate_per_s}
    workload = source.describe() | {
        "requests": requests,
        "loads": ", ".join(one.name for one in found),
        "rounds": rounds,
        "flags": flags.text,
    }
    outcomes = together(measured)
    result = summary(outcomes) | {"rates_per_s": rates}
    columns = ("load", "det. %", "kind", "server", "n", *METRICS)
    rows = list(_rows(result["points"]))
    report.show("seconds: P50 / P90 / P99", workload, columns, rows)
    report.finish(result, workload, out)


def parse_loads(text: str, in_flight: int) -> list[Load]:
    """Raises UserError."""
    loads = []
    for part in map(str.strip, text.split(",")):
        if part == "closed":
            loads.append(Load.closed(in_flight))
            continue
        number, percent, rest = part.partition("%")
        try:
            amount = float(number)
        except ValueError:
            amount = 0
        if rest or not 0 < amount < (100 if percent else float("inf")):
            raise UserError(
                f"--loads takes `closed`, requests per second, or less than 100%, not {part!r}"
            )
        of_stock = Load(f"{amount:g} % of stock", percent=amount)
        loads.append(of_stock if percent else Load(f"{amount:g}/s", rate_per_s=amount))
    return list(dict.fromkeys(loads))


def settle(
    loads: list[Load], stock: Target, source: Source, count: int, in_flight: int
) -> list[Load]:
    """Turn percents into rates, by running stock's closed loop; so that fast machines and slow
    ones are loaded alike."""
    if not any(one.percent for one in loads):
        return loads
    loop = Load.closed(in_flight)
    made = load.run(stock, source.requests(count), loop, "what stock answers in the closed loop")
    per_s = count / time_s(made)
    return [
        replace(one, rate_per_s=one.percent / 100 * per_s) if one.percent else one for one in loads
    ]


def together(measured: Measured) -> Outcomes:
    """The rounds as one."""
    outcomes: Outcomes = {}
    for step, made in measured.items():
        of_kinds = outcomes.setdefault((step.load, step.share, step.server), {})
        for kind in KINDS:
            here = [one for one in made if one.request.deterministic == (kind == KINDS[0])]
            of_kinds.setdefault(kind, []).extend(here)
    return outcomes


def summary(outcomes: Outcomes) -> dict[str, Any]:
    """The JSON. Ratios are ours over stock's, by load and share (percent, as text)."""
    points = [
        {"load": at, "share": share, "server": server, "kind": kind, "requests": len(made)}
        | {metric: percentiles(_values(metric, made)) for metric in METRICS}
        for (at, share, server), by_kind in outcomes.items()
        for kind, made in by_kind.items()
        if made
    ]
    ratios: dict[str, dict[str, dict[str, float | None]]] = {}
    for key, metric, kinds in RATIOS:
        ratios[key] = {at: {} for at, _, _ in outcomes}
        for at, share, _ in outcomes:
            ours, stock = (
                percentiles(_values(metric, chain(*(by_kind[kind] for kind in kinds))))["p99"]
                for by_kind in (outcomes[at, share, server] for server in ("llm42", "stock"))
            )
            ratios[key][at][f"{share:g}"] = ratio(ours, stock)
    ours = (by_kind for (_, _, server), by_kind in outcomes.items() if server == "llm42")
    verified = recompute(chain(*(by_kind["deterministic"] for by_kind in ours)))
    return {
        **ratios,
        "rollbacks": verified.rollbacks,
        "canonical_step_rate": verified.canonical_step_rate,
        "points": points,
    }


def _values(metric: str, outcomes: Iterable[Outcome]) -> list[float]:
    return [value for outcome in outcomes for value in METRICS[metric](outcome)]


def _rows(points: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Any]]:
    for point in sorted(points, key=lambda p: (p["load"], p["share"], p["kind"], p["server"])):
        seen = [[point[metric][p] for p in ("p50", "p90", "p99")] for metric in METRICS]
        names = (f"{point['share']:g}", point["kind"], point["server"], point["requests"])
        yield point["load"], *names, *(" / ".join(map(cell, values)) for values in seen)
