"""`llm42 bench throughput`: output tokens per second, by share of deterministic requests."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from statistics import median
from typing import Annotated, Any

import typer

from llm42_sglang.cli.bench import load, options, report, servers
from llm42_sglang.cli.bench.load import Load, Measurements, Step, Target
from llm42_sglang.cli.bench.outcome import Outcome, recompute, tokens_per_s
from llm42_sglang.cli.bench.workload import Source, mark
from llm42_sglang.cli.output import Out, require_writable, say
from llm42_sglang.errors import UserError

WARM_UP_TOKENS = 8
SERIAL = Load.closed(2)  # one is served and one waits, so that the server is never idle

SerialRequests = Annotated[
    int, typer.Option(min=0, help="Requests for a server that runs one at a time; 0: none.")
]


def throughput(
    context: typer.Context,
    shares: options.Shares = "0,2,5,10,20,50,100",
    requests: options.Requests = 48,
    in_flight: options.InFlight = 16,
    prompt: options.Prompt = "32-512",
    new: options.New = "128",
    rounds: options.Rounds = 3,
    serial_requests: SerialRequests = 5,
    model: options.Model = None,
    seed: options.Seed = 0,
    out: Out = None,
) -> None:
    """Measure throughput by share of deterministic requests, compared with stock SGLang.

    A second comparison is with stock SGLang that runs one request at a time. In a round all servers
    get the same requests, one server after the other. Other flags are passed on to the servers.
    """
    percents = options.numbers("--shares", shares, 0, 100)
    options.require_full_loop(requests, in_flight)
    if 0 < serial_requests <= SERIAL.in_flight:
        raise UserError(f"--serial-requests takes 0, or more than {SERIAL.in_flight}")
    require_writable(out)
    source = Source.of(prompt, new, model, seed)
    source.requests(requests)  # raises now what it would raise after the servers have started
    flags = servers.Flags.of(source.model, context.args, 2 * in_flight * source.most_tokens)
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
        measurements = measure(
            targets, source, percents, rounds, Load.closed(in_flight), requests, serial_requests
        )
    result = summary(measurements)
    report.show("output tokens per second", workload, COLUMNS, list(_rows(result)))
    report.finish(result, workload, out)


def measure(
    targets: Mapping[str, Target],
    source: Source,
    shares: Sequence[float],
    rounds: int,
    loop: Load,
    count: int,
    serial_count: int,
) -> Measurements:
    """Warm up every server and measure in rounds.

    The serial server is slow, so it is loaded once in a round, with fewer requests.
    """
    for target in targets.values():
        requests = [replace(r, new_tokens=WARM_UP_TOKENS) for r in source.requests(loop.in_flight)]
        load.run(target, mark(requests, 50), loop, "warming up")
    measurements: Measurements = {}
    for number in range(rounds):
        of_round = load.one_round(number, targets, source, [loop], shares, count)
        if "serial" in targets:
            step = Step(number, SERIAL.name, 0, "serial")
            requests = source.requests(serial_count, number)
            of_round[step] = load.run(targets["serial"], requests, SERIAL, str(step))
        for step, outcomes in of_round.items():
            say(f"{step}: {tokens_per_s(outcomes):.1f} tokens/s")
        measurements |= of_round
    return measurements


def summary(measurements: Measurements) -> dict[str, Any]:
    """The JSON. Ratios are medians of the rounds' ratios. Shares are percents, as text."""

    def loads(server: str, *shares: float) -> list[list[Outcome]]:
        """The outcomes of a server at these shares, or at all, in order of the rounds."""
        return [
            outcomes
            for step, outcomes in measurements.items()
            if step.server == server and (not shares or step.share in shares)
        ]

    shares = {f"{s:g}": s for s in sorted({s.share for s in measurements if s.server == "llm42"})}
    stock, ours = (
        {text: [*map(tokens_per_s, loads(server, share))] for text, share in shares.items()}
        for server in ("stock", "llm42")
    )
    serial = [*map(tokens_per_s, loads("serial"))]
    ratios = {share: _ratios(ours[share], stock[share]) for share in shares}
    largest = list(shares)[-1]
    verified = {text: recompute(chain(*loads("llm42", share))) for text, share in shares.items()}
    total = recompute(chain(*loads("llm42")))
    return {
        "ratio_to_stock": {share: median(values) for share, values in ratios.items()},
        "speedup_over_serial": median(_ratios(ours[largest], serial)) if serial else None,
        "speedup_at_share": largest,
        "recompute_rate": total.rate,
        "rollbacks": total.rollbacks,
        "canonical_step_rate": total.canonical_step_rate,
        "recompute_rate_by_share": {share: r.rate for share, r in verified.items()},
        "canonical_step_rate_by_share": {s: r.canonical_step_rate for s, r in verified.items()},
        "deterministic_requests_by_share": {share: r.requests for share, r in verified.items()},
        "ratios_to_stock": ratios,
        "tokens_per_s": {"stock": stock, "llm42": ours, "serial": serial},
    }


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [our / their for our, their in zip(ours, theirs, strict=True)]


COLUMNS = (
    *("deterministic %", "requests", "stock", "llm42", "ratio", "least", "most"),
    *("recompute %", "canonical steps %"),
)
ONE_AT_A_TIME = "one at a time"


def _rows(result: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    speeds = result["tokens_per_s"]
    for share, ratios in result["ratios_to_stock"].items():
        rates = (
            result[name][share]
            for name in ("recompute_rate_by_share", "canonical_step_rate_by_share")
        )
        yield (
            share,
            result["deterministic_requests_by_share"][share],
            median(speeds["stock"][share]),
            median(speeds["llm42"][share]),
            result["ratio_to_stock"][share],
            min(ratios),
            max(ratios),
            *(None if rate is None else 100 * rate for rate in rates),
        )
    if speeds["serial"]:
        stock = median(speed for of_share in speeds["stock"].values() for speed in of_share)
        serial = median(speeds["serial"])
        yield ONE_AT_A_TIME, None, stock, serial, serial / stock, *[None] * 4
