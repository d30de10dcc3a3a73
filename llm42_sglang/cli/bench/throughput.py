"""`llm42 bench throughput`: output tokens per second against the share of deterministic traffic."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, NamedTuple

import typer

from llm42_sglang.cli.bench import load, options, report, servers
from llm42_sglang.cli.bench.load import Closed, Target
from llm42_sglang.cli.bench.outcome import Outcome
from llm42_sglang.cli.bench.stats import Recompute, recompute, tokens_per_s
from llm42_sglang.cli.bench.workload import mark
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.output import require_writable
from llm42_sglang.cli.progress import bar, say

WARM_UP_TOKENS = 8
SERIAL_IN_FLIGHT = 2  # one is served, one waits: the server never idles


class Step(NamedTuple):
    """One load of one server."""

    round: int
    share: float  # percent
    server: str

    def __str__(self) -> str:
        return f"round {self.round + 1}, {self.share:g} % deterministic, {self.server}"


@dataclass
class Measured:
    """Everything that was measured, step by step."""

    tokens_per_s: dict[Step, float] = field(default_factory=dict)
    recomputed: dict[Step, Recompute] = field(default_factory=dict)

    def add(self, step: Step, outcomes: Sequence[Outcome]) -> None:
        """What one server made of one load. Raises UserError if an answer is not verified."""
        self.tokens_per_s[step] = tokens_per_s(outcomes)
        if step.server == "llm42":
            self.recomputed[step] = recompute(outcomes)


def throughput(
    context: typer.Context,
    shares: options.Shares = "0,2,5,10,20,50,100",
    requests: options.Requests = 48,
    in_flight: options.InFlight = 16,
    prompt: options.Prompt = "32-512",
    new: options.New = "128",
    rounds: options.Rounds = 3,
    serial_requests: Annotated[
        int, typer.Option(min=0, help="For the server that takes one request at a time; 0: none.")
    ] = 5,
    model: options.Model = None,
    seed: options.Seed = 0,
    out: options.Out = None,
    plot: options.Plot = None,
) -> None:
    """Throughput against the share of deterministic traffic, beside stock, and beside stock with
    one request at a time.

    In a round all servers get the same requests, one server after the other. Flags that are not
    known here go to the servers.
    """
    wanted = options.numbers("--shares", shares, 0, 100)
    options.require_full_loop(requests, in_flight)
    if 0 < serial_requests <= SERIAL_IN_FLIGHT:
        raise UserError(f"--serial-requests takes 0, or more than {SERIAL_IN_FLIGHT}")
    require_writable(out, plot)
    source = options.Source.of(prompt, new, model, seed)
    source.requests(requests)  # refuses now, not after the servers have started
    flags = servers.Flags.of(source.model, context.args, 2 * in_flight * source.mix.most_tokens)
    processes = {"stock": servers.stock(flags), "llm42": servers.ours(flags)}
    if serial_requests:
        processes["serial"] = servers.serial(flags)
    workload = source.describe() | {
        "requests": requests,
        "in_flight": in_flight,
        "rounds": rounds,
        "serial_requests": serial_requests,
        "counted": "all tokens, from the first request sent to the last token",
        "flags": flags.text,
    }
    with servers.running(**processes) as targets:
        measured = measure(targets, source, wanted, rounds, in_flight, requests, serial_requests)
    result = summary(measured)
    report.show("output tokens per second", workload, COLUMNS, list(_rows(result)))
    report.plot(plot, partial(draw, result=result))
    report.finish(result, workload, out)


def schedule(shares: Sequence[float], rounds: int, serial: bool) -> list[Step]:
    """Rounds of all shares, stock and ours one after the other; who is first changes with the
    round. The server of one request at a time is loaded once a round."""
    steps = []
    for number in range(rounds):
        pair = ("stock", "llm42")[:: -1 if number % 2 else 1]
        steps += [Step(number, share, name) for share in shares for name in pair]
        steps += [Step(number, 0, "serial")] * serial
    return steps


def measure(
    targets: Mapping[str, Target],
    source: options.Source,
    shares: Sequence[float],
    rounds: int,
    in_flight: int,
    count: int,
    serial_count: int,
) -> Measured:
    """Warm every server up, then run the schedule. In a round all loads have the same prompts;
    the slowest server gets fewer of them: a rate is a rate."""
    for target in targets.values():
        short = [replace(r, new_tokens=WARM_UP_TOKENS) for r in source.requests(in_flight)]
        load.run(target, mark(short, 50), Closed(in_flight))
    measured = Measured()
    for step in schedule(shares, rounds, "serial" in targets):
        size, at_once = (count, in_flight)
        if step.server == "serial":
            size, at_once = serial_count, SERIAL_IN_FLIGHT
        requests = mark(source.requests(size, step.round), step.share)
        with bar(str(step), size) as advance:
            outcomes = load.run(targets[step.server], requests, Closed(at_once), advance)
        measured.add(step, outcomes)
        say(f"{step}: {measured.tokens_per_s[step]:.1f} tokens/s")
    return measured


def summary(measured: Measured) -> dict[str, Any]:
    """The JSON. Ratios are medians of ratios within a round; shares are percent, as text."""
    speeds = measured.tokens_per_s
    shares = sorted({step.share for step in speeds if step.server == "llm42"})
    rounds = range(1 + max(step.round for step in speeds))
    stock, ours = (
        {f"{s:g}": [speeds[Step(r, s, server)] for r in rounds] for s in shares}
        for server in ("stock", "llm42")
    )
    ratios = {
        share: [a / b for a, b in zip(ours[share], stock[share], strict=True)] for share in ours
    }
    most = f"{shares[-1]:g}"
    serial = [speed for step, speed in speeds.items() if step.server == "serial"]
    total = _add(measured.recomputed.values())
    by_share = {
        f"{s:g}": _add(r for step, r in measured.recomputed.items() if step.share == s)
        for s in shares
    }
    return {
        "ratio_to_stock": {share: statistics.median(values) for share, values in ratios.items()},
        "speedup_over_serial": statistics.median(
            a / b for a, b in zip(ours[most], serial, strict=True)
        )
        if serial
        else None,
        "speedup_at_share": most,
        "recompute_rate": total.rate,
        "rollbacks": total.rollbacks,
        "recompute_rate_by_share": {share: one.rate for share, one in by_share.items()},
        "deterministic_requests_by_share": {share: one.requests for share, one in by_share.items()},
        "ratios_to_stock": ratios,
        "tokens_per_s": {"stock": stock, "llm42": ours, "serial": serial},
    }


COLUMNS = ("deterministic %", "requests", "stock", "llm42", "ratio", "least", "most", "recompute %")
SERIAL = "one at a time"


def _rows(result: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    speeds = result["tokens_per_s"]
    for share, ratios in result["ratios_to_stock"].items():
        rate = result["recompute_rate_by_share"][share]
        yield (
            share,
            result["deterministic_requests_by_share"][share],
            statistics.median(speeds["stock"][share]),
            statistics.median(speeds["llm42"][share]),
            result["ratio_to_stock"][share],
            min(ratios),
            max(ratios),
            None if rate is None else 100 * rate,
        )
    if speeds["serial"]:
        every = statistics.median([s for several in speeds["stock"].values() for s in several])
        speed = statistics.median(speeds["serial"])
        yield SERIAL, None, every, speed, speed / every, None, None, None


def draw(axes: Sequence[Any], result: Mapping[str, Any]) -> None:
    """Speeds on the left, ratios with their range on the right; evenly spaced shares."""
    speeds, ratios = result["tokens_per_s"], result["ratios_to_stock"]
    left, right = axes
    shares = list(ratios)
    for name in ("stock", "llm42"):
        medians = [statistics.median(speeds[name][share]) for share in shares]
        left.plot(shares, medians, marker="o", label=name)
    if speeds["serial"]:
        speed = statistics.median(speeds["serial"])
        left.axhline(speed, color="grey", linestyle="--", label=SERIAL)
    left.set(ylabel="output tokens per second", ylim=(0, None))
    left.legend()
    middle = [result["ratio_to_stock"][share] for share in shares]
    down = [m - min(ratios[share]) for m, share in zip(middle, shares, strict=True)]
    up = [max(ratios[share]) - m for m, share in zip(middle, shares, strict=True)]
    right.errorbar(shares, middle, yerr=(down, up), marker="o", capsize=3)
    right.axhline(1, color="grey", linestyle="--")
    right.set(ylabel="llm42 / stock, median and range over rounds", ylim=(0, None))
    for panel in axes:
        panel.set(xlabel="deterministic requests, %")


def _add(parts: Iterable[Recompute]) -> Recompute:
    return Recompute(*map(sum, zip(Recompute(0, 0, 0, 0), *parts, strict=True)))
