"""`llm42 bench throughput`: output tokens per second against the share of deterministic traffic."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, NamedTuple

import typer

from llm42_sglang.cli.bench import load, options, report, servers, turns
from llm42_sglang.cli.bench.load import Closed, Job, Target
from llm42_sglang.cli.bench.outcome import Outcome
from llm42_sglang.cli.bench.recompute import Recompute, recompute
from llm42_sglang.cli.bench.stats import tokens_per_s
from llm42_sglang.cli.bench.workload import mark
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.launch import ServerProcess
from llm42_sglang.cli.progress import bar, say

WARM_UP_TOKENS = 8
SERIAL_IN_FLIGHT = 2  # one is served, one waits: the server never idles


class Step(NamedTuple):
    """One load of one server."""

    round: int
    share: float  # percent
    server: str


@dataclass
class Measured:
    """Everything that was measured, step by step."""

    tokens_per_s: dict[Step, float] = field(default_factory=dict)
    recomputed: dict[Step, Recompute] = field(default_factory=dict)

    def add(self, step: Step, outcomes: Sequence[Outcome]) -> None:
        """What one server made of one load. Raises UserError if an answer is not verified."""
        self.tokens_per_s[step] = tokens_per_s(outcomes, outcomes)
        if step.server == "llm42":
            self.recomputed[step] = recompute(outcomes)


def throughput(
    context: typer.Context,
    shares: options.Shares = "0,2,5,10,20,50,100",
    requests: options.Requests = 48,
    in_flight: options.InFlight = 16,
    prompt: options.Prompt = "32-512",
    new: options.New = "128",
    mix: options.MixName = None,
    dataset: options.Dataset = None,
    rounds: options.Rounds = 3,
    serial_requests: Annotated[
        int, typer.Option(min=0, help="For the server that takes one request at a time; 0: none.")
    ] = 5,
    fixed_requests: Annotated[
        int, typer.Option(min=0, help="For the server that decodes in the fixed shape; 0: none.")
    ] = 16,
    model: options.Model = None,
    seed: options.Seed = 0,
    out: options.Out = None,
    plot: options.Plot = None,
    page: options.Page = None,
) -> None:
    """Throughput against the share of deterministic traffic, beside stock, one request at a time,
    and everything decoded in the fixed shape.

    All servers get the same requests, and the machine in turns. Flags that are not known here go to
    the servers.
    """
    wanted = options.numbers("--shares", shares, 0, 100)
    options.require_full_loop(requests, in_flight)
    if 0 < serial_requests <= SERIAL_IN_FLIGHT:
        raise UserError(f"--serial-requests takes 0, or more than {SERIAL_IN_FLIGHT}")
    if 0 < fixed_requests < in_flight:
        raise UserError(f"--fixed-requests takes 0, or --in-flight {in_flight} at least")
    report.require_writable(out, plot, page)
    lengths = options.mix_of(prompt, new, mix)
    source = options.Source.of(lengths, model, dataset, seed)
    source.requests(requests)  # refuses now, not after the servers have started
    flags = servers.Flags.of(source.model, context.args, 2 * in_flight * lengths.most_tokens)
    sizes = dict.fromkeys(("stock", "llm42"), requests)
    sizes |= {"serial": serial_requests, "fixed_shape": fixed_requests}
    processes = {name: start(flags) for name, start in _competitors().items() if sizes[name]}
    workload = source.describe() | {
        "requests": requests,
        "in_flight": in_flight,
        "rounds": rounds,
        "serial_requests": serial_requests,
        "fixed_requests": fixed_requests,
        "counted": "all tokens, from the first request sent to the last token",
        "flags": " ".join([*flags.everywhere, *flags.ours]),
    }
    with servers.running(**processes) as targets:
        measured = measure(targets, source, wanted, rounds, in_flight, sizes)
    result = summary(measured)
    shown = report.show("output tokens per second", workload, COLUMNS, list(_rows(result)))
    picture = partial(draw, result=result)
    report.plot(plot, 2, picture)
    report.page(page, "throughput", workload, [shown], 2, picture)
    report.finish(result, workload, out)


def _competitors() -> dict[str, Callable[[servers.Flags], ServerProcess]]:
    """How each is started, in this order; looked up late, for tests replace them."""
    return {
        "stock": servers.stock,
        "llm42": servers.ours,
        "serial": servers.serial,
        "fixed_shape": servers.fixed_shape,
    }


def schedule(shares: Sequence[float], rounds: int, names: Iterable[str]) -> list[list[Step]]:
    """What runs in turns, one after the other: stock and ours, share by share; beside the largest,
    once a round, the other servers. Who is first changes with the round."""
    several = []
    others = [name for name in names if name not in ("stock", "llm42")]
    for number in range(rounds):
        for share in shares:
            steps = [Step(number, share, name) for name in ("stock", "llm42")]
            if share == max(shares):
                steps += [Step(number, 0, name) for name in others]
            several.append(steps if number % 2 == 0 else steps[::-1])
    return several


def measure(
    targets: Mapping[str, Target],
    source: options.Source,
    shares: Sequence[float],
    rounds: int,
    in_flight: int,
    sizes: Mapping[str, int],
) -> Measured:
    """Warm every server up, then run the schedule.

    In a round all loads have the same prompts. The slowest servers get fewer of them: a rate is a
    rate.
    """
    loads = defaultdict(lambda: Closed(in_flight), serial=Closed(SERIAL_IN_FLIGHT))
    for target in targets.values():
        short = [replace(r, new_tokens=WARM_UP_TOKENS) for r in source.requests(in_flight)]
        load.run(target, mark(short, 50), Closed(in_flight))
    measured = Measured()
    for steps in schedule(shares, rounds, targets):
        jobs = [
            Job(
                targets[step.server],
                mark(source.requests(sizes[step.server], step.round), step.share),
                loads[step.server],
            )
            for step in steps
        ]
        title = f"round {steps[0].round + 1}, {max(s.share for s in steps):g} % deterministic"
        with bar(title, sum(len(job.requests) for job in jobs)) as advance:
            made = turns.run([job._replace(advance=advance) for job in jobs])
        for step, outcomes in zip(steps, made, strict=True):
            measured.add(step, outcomes)
        speeds = (f"{step.server} {measured.tokens_per_s[step]:.1f}" for step in steps)
        say(f"{title}, tokens/s: {', '.join(speeds)}")
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
    slow = {name: [speed for step, speed in speeds.items() if step.server == name] for name in SLOW}
    speedups = {
        name: statistics.median(a / b for a, b in zip(ours[most], others, strict=True))
        for name, others in slow.items()
        if others
    }
    total = _add(measured.recomputed.values())
    by_share = {
        f"{s:g}": _add(r for step, r in measured.recomputed.items() if step.share == s)
        for s in shares
    }
    return {
        "ratio_to_stock": {share: statistics.median(values) for share, values in ratios.items()},
        "speedup_over_serial": speedups.get("serial"),
        "speedup_over_fixed_shape": speedups.get("fixed_shape"),
        "speedup_at_share": most,
        "recompute_rate": total.rate,
        "rollbacks": total.rollbacks,
        "recompute_rate_by_share": {share: one.rate for share, one in by_share.items()},
        "deterministic_requests_by_share": {share: one.requests for share, one in by_share.items()},
        "ratios_to_stock": ratios,
        "tokens_per_s": {"stock": stock, "llm42": ours, **slow},
    }


# Servers that are measured once a round.
SLOW = {"serial": "one at a time", "fixed_shape": "all in the fixed shape"}
COLUMNS = ("deterministic %", "requests", "stock", "llm42", "ratio", "least", "most", "recompute %")


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
    every = statistics.median([s for several in speeds["stock"].values() for s in several])
    for name, label in SLOW.items():
        if speeds[name]:
            speed = statistics.median(speeds[name])
            yield label, None, every, speed, speed / every, None, None, None


def draw(axes: Sequence[Any], result: Mapping[str, Any]) -> None:
    """Speeds on the left, ratios with their range on the right; evenly spaced shares."""
    speeds, ratios = result["tokens_per_s"], result["ratios_to_stock"]
    left, right = axes
    shares = list(ratios)
    for name in ("stock", "llm42"):
        medians = [statistics.median(speeds[name][share]) for share in shares]
        left.plot(shares, medians, marker="o", label=name)
    for (name, label), style in zip(SLOW.items(), ("--", ":"), strict=True):
        if speeds[name]:
            speed = statistics.median(speeds[name])
            left.axhline(speed, color="grey", linestyle=style, label=label)
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
    return Recompute(*map(sum, zip(Recompute(0, 0, 0, 0, 0), *parts, strict=True)))
