"""`llm42 bench latency`: what clients wait for, ours and stock at the same load."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Annotated, Any, NamedTuple

import typer

from llm42_sglang.cli.bench import load, options, report, servers
from llm42_sglang.cli.bench.load import Closed, Load, Poisson, Target
from llm42_sglang.cli.bench.outcome import Outcome
from llm42_sglang.cli.bench.stats import Percentiles, percentiles, ratio, recompute, time_s
from llm42_sglang.cli.bench.workload import mark
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.output import cell, require_writable
from llm42_sglang.cli.progress import bar

SERVERS = ("stock", "llm42")
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
DEFINITIONS = {
    "ttft": "from sending (Poisson: when it was due) to the first token",
    "gap": "between two chunks; a chunk is a token, or a run of committed ones",
    "itl": "gap divided by the tokens of its later chunk, once per token",
    "e2e": "from sending to the last token",
    "kinds": "stock serves the same requests, all as ordinary ones",
}


class Percent(NamedTuple):
    """A load to be settled: of what stock answers in a closed loop."""

    amount: float


class Point(NamedTuple):
    """One load with one share of deterministic requests."""

    load: str
    share: float  # percent
    server: str


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
    plot: options.Plot = None,
) -> None:
    """Time to first token, between tokens and end to end, of deterministic and ordinary requests.

    Both servers get the same requests, Poisson ones at the same times, one server after the other.
    Percentiles are over the requests of all rounds. Flags that are not known here go to the
    servers.
    """
    wanted = options.numbers("--shares", shares, 0, 100)
    asked = parse_loads(loads, in_flight)
    if any(isinstance(one, Percent) for one in asked):
        options.require_full_loop(requests, in_flight)
    require_writable(out, plot)
    source = options.Source.of(prompt, new, model, seed)
    source.requests(requests)
    flags = servers.Flags.of(source.model, context.args, 2 * in_flight * source.mix.most_tokens)
    with servers.running(stock=servers.stock(flags), llm42=servers.ours(flags)) as targets:
        for target in targets.values():
            load.run(target, mark(source.requests(4), 50), Closed(4))  # warm-up
        found = settle(asked, targets, source, requests, in_flight)
        outcomes = measure(targets, source, found, wanted, rounds, requests)
    rates = {str(one): one.rate_per_s for one in found if isinstance(one, Poisson)}
    workload = source.describe() | {
        "requests": requests,
        "loads": ", ".join(map(str, found)),
        "rounds": rounds,
        "flags": flags.text,
    }
    result = summary(outcomes) | {"rates_per_s": rates}
    columns = ("load", "det. %", "kind", "server", "n", *METRICS)
    rows = list(_rows(result["points"]))
    report.show("seconds: P50 / P90 / P99", workload, columns, rows)
    report.plot(plot, partial(draw, outcomes=outcomes))
    report.finish(result, workload, out)


def parse_loads(text: str, in_flight: int) -> list[Load | Percent]:
    """Raises UserError."""
    loads: list[Load | Percent] = []
    for part in map(str.strip, text.split(",")):
        if part == "closed":
            loads.append(Closed(in_flight))
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
        loads.append(Percent(amount) if percent else Poisson(amount))
    return list(dict.fromkeys(loads))


def settle(
    loads: Sequence[Load | Percent],
    targets: Mapping[str, Target],
    source: options.Source,
    count: int,
    in_flight: int,
) -> list[Load]:
    """Turn percents into rates, by running stock's closed loop; so that fast machines and slow
    ones are loaded alike."""
    per_s = 0.0
    if any(isinstance(one, Percent) for one in loads):
        with bar("what stock answers in the closed loop", count) as advance:
            made = load.run(targets["stock"], source.requests(count), Closed(in_flight), advance)
        per_s = count / time_s(made)
    return [
        Poisson(one.amount / 100 * per_s, name=f"{one.amount:g} % of stock")
        if isinstance(one, Percent)
        else one
        for one in loads
    ]


def measure(
    targets: Mapping[str, Target],
    source: options.Source,
    loads: Sequence[Load],
    shares: Sequence[float],
    rounds: int,
    count: int,
) -> dict[Point, list[Outcome]]:
    """Every load and share once a round, on both servers; who is first changes with the round."""
    outcomes: dict[Point, list[Outcome]] = defaultdict(list)
    for number, one, share in product(range(rounds), loads, shares):
        requests, arriving = mark(source.requests(count, number), share), _in_round(one, number)
        for name in SERVERS[:: -1 if number % 2 else 1]:
            title = f"round {number + 1}, {one}, {share:g} % deterministic, {name}"
            with bar(title, count) as advance:
                made = load.run(targets[name], requests, arriving, advance)
            if name == "llm42":
                recompute(made)  # refuses answers that are not verified
            outcomes[Point(str(one), share, name)] += made
    return dict(outcomes)


def _in_round(one: Load, number: int) -> Load:
    """Every round has arrival times of its own."""
    return replace(one, seed=number) if isinstance(one, Poisson) else one


def summary(outcomes: Mapping[Point, Sequence[Outcome]]) -> dict[str, Any]:
    """The JSON. Ratios are ours over stock's, by load and share (percent, as text)."""
    points = [
        {"load": at, "share": share, "server": name, "kind": kind, **_described(part)}
        for (at, share, name), made in outcomes.items()
        for kind in KINDS
        if (part := _of_kind(made, kind))
    ]
    ratios: dict[str, dict[str, dict[str, float | None]]] = {}
    for key, metric, kinds in RATIOS:
        ratios[key] = {at: {} for at, _, _ in outcomes}
        for at, share, name in outcomes:
            if name == "llm42":
                ours, stock = (
                    percentiles(_values(metric, _of_kind(outcomes[Point(at, share, of)], *kinds)))
                    for of in ("llm42", "stock")
                )
                ratios[key][at][f"{share:g}"] = ratio(ours.p99, stock.p99)
    return {**ratios, "definitions": DEFINITIONS, "points": points}


def draw(axes: Sequence[Any], outcomes: Mapping[Point, Sequence[Outcome]]) -> None:
    """Which share of first tokens, and of ordinary requests' tokens, has come by when."""
    first, ordinary = axes
    loads = list(dict.fromkeys((at, share) for at, share, _ in outcomes))
    for (at, share, name), part in outcomes.items():
        style = f"C{loads.index((at, share)) % 10}{'--' if name == 'stock' else '-'}"
        label = f"{name}, {at}, {share:g} %"
        _cumulative(first, _values("ttft", part), style, label)
        _cumulative(ordinary, _values("gap", _of_kind(part, "ordinary")), style, label)
    first.set(xlabel="time to first token, s", ylabel="share of requests")
    ordinary.set(xlabel="between two tokens of ordinary requests, s", xscale="log")
    for panel in axes:
        if panel.lines:
            panel.legend(fontsize="x-small")


def _cumulative(panel: Any, values: Sequence[float], style: str, label: str) -> None:
    if ordered := sorted(values):
        ranks = [(i + 1) / len(ordered) for i in range(len(ordered))]
        panel.step(ordered, ranks, style, where="post", label=label)


def _described(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "requests": len(outcomes),
        **{metric: percentiles(_values(metric, outcomes))._asdict() for metric in METRICS},
    }


def _of_kind(outcomes: Iterable[Outcome], *kinds: str) -> list[Outcome]:
    return [one for one in outcomes if KINDS[not one.request.deterministic] in kinds]


def _values(metric: str, outcomes: Iterable[Outcome]) -> list[float]:
    return [value for outcome in outcomes for value in METRICS[metric](outcome)]


def _rows(points: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Any]]:
    for point in sorted(points, key=lambda p: (p["load"], p["share"], p["kind"], p["server"])):
        names = (f"{point['share']:g}", point["kind"], point["server"], point["requests"])
        yield point["load"], *names, *(_cell(Percentiles(**point[metric])) for metric in METRICS)


def _cell(seen: Percentiles) -> str:
    return " / ".join(cell(value) for value in seen[1:])
