"""`llm42 bench latency`: how long clients wait, with llm42 and with stock SGLang at equal load."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from statistics import median
from typing import Annotated, Any

import typer

from llm42_sglang.cli.bench import options, report, servers
from llm42_sglang.cli.bench.load import Load, Measurements, Target, one_round, run
from llm42_sglang.cli.bench.outcome import Outcome, percentiles, ratio, recompute, time_s
from llm42_sglang.cli.bench.workload import Source, mark
from llm42_sglang.cli.output import Out, cell, require_writable
from llm42_sglang.errors import UserError

KINDS = ("deterministic", "ordinary")
METRICS = {  # by name in the JSON, all in seconds; `outcome` has the definitions
    "ttft": lambda outcome: [outcome.ttft_s],
    "gap": lambda outcome: outcome.gaps_s,
    "itl": lambda outcome: outcome.inter_token_s,
    "e2e": lambda outcome: [outcome.end_to_end_s],
}
RATIOS = (  # ratios of 99th percentiles: name in the JSON, metric, kinds of requests
    ("p99_ttft_ratio", "ttft", KINDS),
    ("p99_itl_ordinary_ratio", "itl", ("ordinary",)),
    ("p99_gap_ordinary_ratio", "gap", ("ordinary",)),
)

COLUMNS = ("load", "det. %", "kind", "server", "n", *METRICS)
Loads = Annotated[
    str,
    typer.Option(
        help="Loads, with commas. `closed` sends --in-flight requests at once, then one for each"
        " answer. `staggered` does so too, but its answers do not end together. A number sends so"
        " many requests per second, as Poisson arrivals. A percent such as 60% does likewise, at so"
        " much of the rate of stock SGLang in the closed loop."
    ),
]


def latency(
    context: typer.Context,
    loads: Loads = "closed,60%",
    shares: options.Shares = "50,100",
    requests: options.Requests = 48,
    in_flight: options.InFlight = 16,
    prompt: options.Prompt = "32-512",
    new: options.New = "128",
    rounds: options.Rounds = 2,
    model: options.Model = None,
    seed: options.Seed = 0,
    out: Out = None,
) -> None:
    """Measure the time to the first token, between tokens, and to the last token.

    Deterministic and ordinary requests are told apart, and compared with stock SGLang. Both servers
    get the same requests, one after the other, and Poisson ones at the same times. Percentiles are
    over all rounds, ratios are medians of the rounds'. Other flags are passed on to the servers.
    """
    percents = options.numbers("--shares", shares, 0, 100)
    load_list = parse_loads(loads, in_flight)
    if any(load.percent for load in load_list):
        options.require_full_loop(requests, in_flight)
    require_writable(out)
    source = Source.of(prompt, new, model, seed)
    source.requests(requests)
    flags = servers.Flags.of(source.model, context.args, 2 * in_flight * source.most_tokens)
    with servers.running(stock=servers.stock(flags), llm42=servers.ours(flags)) as targets:
        for target in targets.values():
            run(target, mark(source.requests(4), 50), Load.closed(4), "warming up")
        settled_loads = settle(load_list, targets["stock"], source, requests, in_flight)
        measurements: Measurements = {}
        for number in range(rounds):
            measurements |= one_round(number, targets, source, settled_loads, percents, requests)
    rates = {load.name: load.rate_per_s for load in settled_loads if load.rate_per_s}
    workload = source.describe() | {
        "requests": requests,
        "loads": ", ".join(load.name for load in settled_loads),
        "rounds": rounds,
        "flags": flags.text,
    }
    result = summary(measurements) | {"rates_per_s": rates}
    rows = list(_rows(result["points"]))
    report.show("seconds: P50 / P90 / P99", workload, COLUMNS, rows)
    report.finish(result, workload, out)


def parse_loads(text: str, in_flight: int) -> list[Load]:
    """The loads of a list with commas. Raises UserError."""
    loads = []
    for part in map(str.strip, text.split(",")):
        if part in ("closed", "staggered"):
            loads.append(Load.closed(in_flight, staggered=part == "staggered"))
            continue
        number, percent, rest = part.partition("%")
        try:
            amount = float(number)
        except ValueError:
            amount = 0
        if rest or not 0 < amount < (100 if percent else float("inf")):
            raise UserError(
                "--loads takes `closed`, `staggered`, requests per second, or less than 100%, "
                f"not {part!r}"
            )
        of_stock = Load(f"{amount:g} % of stock", percent=amount)
        loads.append(of_stock if percent else Load(f"{amount:g}/s", rate_per_s=amount))
    return list(dict.fromkeys(loads))


def settle(
    loads: list[Load], stock: Target, source: Source, count: int, in_flight: int
) -> list[Load]:
    """Turn percents into rates, after measuring the rate of stock SGLang in a closed loop.

    So fast and slow machines are loaded alike.
    """
    if not any(load.percent for load in loads):
        return loads
    loop = Load.closed(in_flight)
    outcomes = run(stock, source.requests(count), loop, "what stock answers in the closed loop")
    per_s = count / time_s(outcomes)
    return [
        replace(load, rate_per_s=load.percent / 100 * per_s) if load.percent else load
        for load in loads
    ]


def summary(measurements: Measurements) -> dict[str, Any]:
    """The JSON. Ratios are llm42's over stock's, by load and share (percent, as text): medians of
    the rounds' ratios, which are there too. Points are over all rounds."""
    points: dict[tuple[str, float, str, str], list[Outcome]] = {}
    for step, outcomes in measurements.items():
        for kind in KINDS:
            of_kind = points.setdefault((step.load, step.share, step.server, kind), [])
            of_kind += _of_kind(outcomes, kind)
    ratios = {f"{name}s": _ratios(measurements, metric, *kinds) for name, metric, kinds in RATIOS}
    verified = recompute(chain(*(each for key, each in points.items() if "llm42" in key)))
    return {
        **{name: _medians(ratios[f"{name}s"]) for name, _, _ in RATIOS},
        **ratios,
        "rollbacks": verified.rollbacks,
        "canonical_step_rate": verified.canonical_step_rate,
        "points": [
            {"load": load, "share": share, "server": server, "kind": kind, "requests": len(of_kind)}
            | {metric: percentiles(_values(metric, of_kind)) for metric in METRICS}
            for (load, share, server, kind), of_kind in points.items()
            if of_kind
        ],
    }


def _ratios(
    measurements: Measurements, metric: str, *kinds: str
) -> dict[str, dict[str, list[float]]]:
    """The ratio of 99th percentiles in each round, by load and share; none without a request."""
    ratios: dict[str, dict[str, list[float]]] = {}
    for step, outcomes in measurements.items():
        if step.server != "llm42":
            continue
        ours, stock = (
            percentiles(_values(metric, chain(*(_of_kind(each, kind) for kind in kinds))))["p99"]
            for each in (outcomes, measurements[step._replace(server="stock")])
        )
        found = ratios.setdefault(step.load, {}).setdefault(f"{step.share:g}", [])
        if (value := ratio(ours, stock)) is not None:
            found.append(value)
    return ratios


def _medians(
    ratios: Mapping[str, Mapping[str, Sequence[float]]],
) -> dict[str, dict[str, float | None]]:
    return {
        load: {share: median(values) if values else None for share, values in by_share.items()}
        for load, by_share in ratios.items()
    }


def _of_kind(outcomes: Iterable[Outcome], kind: str) -> list[Outcome]:
    return [o for o in outcomes if o.request.deterministic == (kind == "deterministic")]


def _values(metric: str, outcomes: Iterable[Outcome]) -> list[float]:
    return [value for outcome in outcomes for value in METRICS[metric](outcome)]


def _rows(points: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Any]]:
    for point in sorted(points, key=lambda p: (p["load"], p["share"], p["kind"], p["server"])):
        times = [[point[metric][p] for p in ("p50", "p90", "p99")] for metric in METRICS]
        names = (f"{point['share']:g}", point["kind"], point["server"], point["requests"])
        yield point["load"], *names, *(" / ".join(map(cell, values)) for values in times)
