"""`llm42 bench throughput`: output tokens per second against the share of deterministic traffic."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from statistics import median
from typing import Annotated, Any

import typer

from llm42_sglang.cli.bench import load, options, report, servers
from llm42_sglang.cli.bench.load import Load, Measured, Step, Target
from llm42_sglang.cli.bench.outcome import Outcome, recompute, tokens_per_s
from llm42_sglang.cli.bench.workload import Source, mark
from llm42_sglang.cli.output import require_writable, say
from llm42_sglang.errors import UserError

WARM_UP_TOKENS = 8
SERIAL = Load.closed(2)  # one is served, one waits: the server never idles


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
) -> None:
    """Throughput against the share of deterministic traffic, beside stock, and beside stock with
    one request at a time.

    In a round all servers get the same requests, one server after the other. Flags that are not
    known here go to the servers.
    """
    wanted = options.numbers("--shares", shares, 0, 100)
    options.require_full_loop(requests, in_flight)
    if 0 < serial_requests <= SERIAL.in_flight:
        raise UserError(f"--serial-requests takes 0, or more than {SERIAL.in_flight}")
    require_writable(out)
    source = Source.of(prompt, new, model, seed)
    source.requests(requests)  # refuses now, not after the servers have started
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
        measured = measure(
            targets, source, wanted, rounds, Load.closed(in_flight), requests, serial_requests
        )
    result = summary(measured)
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
) -> Measured:
    """Warm every server up, then rounds. The slowest server gets fewer requests, once a round: a
    rate is a rate."""
    for target in targets.values():
        short = [replace(r, new_tokens=WARM_UP_TOKENS) for r in source.requests(loop.in_flight)]
        load.run(target, mark(short, 50), loop, "warming up")
    measured: Measured = {}
    for number in range(rounds):
        made = load.one_round(number, targets, source, [loop], shares, count)
        if "serial" in targets:
            step = Step(number, SERIAL.name, 0, "serial")
            requests = source.requests(serial_count, number)
            made[step] = load.run(targets["serial"], requests, SERIAL, str(step))
        for step, outcomes in made.items():
            say(f"{step}: {tokens_per_s(outcomes):.1f} tokens/s")
        measured |= made
    return measured


def summary(measured: Measured) -> dict[str, Any]:
    """The JSON. Ratios are medians of ratios within a round; shares are percent, as text."""

    def loads(server: str, *shares: float) -> list[list[Outcome]]:
        """In order of the rounds."""
        own = {step: made for step, made in measured.items() if step.server == server}
        return [made for step, made in own.items() if not shares or step.share in shares]

    shares = {f"{s:g}": s for s in sorted({s.share for s in measured if s.server == "llm42"})}
    stock, ours = (
        {text: [*map(tokens_per_s, loads(server, share))] for text, share in shares.items()}
        for server in ("stock", "llm42")
    )
    serial = [*map(tokens_per_s, loads("serial"))]
    ratios = {share: _over(ours[share], stock[share]) for share in shares}
    most = list(shares)[-1]
    verified = {text: recompute(chain(*loads("llm42", share))) for text, share in shares.items()}
    total = recompute(chain(*loads("llm42")))
    return {
        "ratio_to_stock": {share: median(values) for share, values in ratios.items()},
        "speedup_over_serial": median(_over(ours[most], serial)) if serial else None,
        "speedup_at_share": most,
        "recompute_rate": total.rate,
        "rollbacks": total.rollbacks,
        "canonical_step_rate": total.canonical_step_rate,
        "recompute_rate_by_share": {share: one.rate for share, one in verified.items()},
        "canonical_step_rate_by_share": {
            share: one.canonical_step_rate for share, one in verified.items()
        },
        "deterministic_requests_by_share": {share: one.requests for share, one in verified.items()},
        "ratios_to_stock": ratios,
        "tokens_per_s": {"stock": stock, "llm42": ours, "serial": serial},
    }


def _over(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ours, others, strict=True)]


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
        every = median(speed for several in speeds["stock"].values() for speed in several)
        speed = median(speeds["serial"])
        yield ONE_AT_A_TIME, None, every, speed, speed / every, *[None] * 4
