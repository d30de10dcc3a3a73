"""`llm42 bench beside`: what ordinary traffic gets beside companions of several kinds."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

from llm42_sglang.cli.bench import load, options, report, servers
from llm42_sglang.cli.bench.load import Closed, Target
from llm42_sglang.cli.bench.outcome import Outcome
from llm42_sglang.cli.bench.stats import tokens_per_s
from llm42_sglang.cli.bench.workload import GREEDY, Request, Sampling, mark
from llm42_sglang.cli.progress import bar

SAMPLED = Sampling(temperature=0.8, top_p=0.95, seed=7)
# Companions, by name: are they deterministic, and how do they sample?
COMPANIONS: dict[str, tuple[bool, Sampling]] = {
    "ordinary, sampling": (False, SAMPLED),
    "deterministic, greedy": (True, GREEDY),
    "deterministic, sampling": (True, SAMPLED),
}
BASE = "ordinary, sampling"


def beside(
    context: typer.Context,
    share: Annotated[
        float, typer.Option(min=1, max=99, help="Companions among the requests, in percent.")
    ] = 10,
    requests: options.Requests = 48,
    in_flight: options.InFlight = 16,
    prompt: options.Prompt = "32-512",
    new: options.New = "128",
    rounds: options.Rounds = 3,
    model: options.Model = None,
    seed: options.Seed = 0,
    out: options.Out = None,
    page: options.Page = None,
) -> None:
    """Output tokens per second of ordinary greedy requests beside companions of several kinds.

    One server, the kinds in turn. A seed or a sampler that reached beyond its own requests would
    show here. Flags that are not known here go to the server.
    """
    options.require_full_loop(requests, in_flight)
    report.require_writable(out, page)
    lengths = options.mix_of(prompt, new, None)
    source = options.Source.of(lengths, model, None, seed)
    flags = servers.Flags.of(source.model, context.args, 2 * in_flight * lengths.most_tokens)
    workload = source.describe() | {
        "requests": requests,
        "in_flight": in_flight,
        "rounds": rounds,
        "companions_percent": share,
        "counted": "ordinary requests' tokens, from the first request sent to the last token",
    }
    with servers.running(llm42=servers.ours(flags)) as targets:
        speeds = measure(targets["llm42"], source, share, rounds, requests, in_flight)
    result = summary(speeds)
    rows = [
        (name, statistics.median(of), result["ratio"][name], *_range(result["ratios"][name]))
        for name, of in speeds.items()
    ]
    columns = ("companions", "ordinary tokens/s", f"over {BASE}", "least", "most")
    shown = report.show("ordinary traffic beside companions", workload, columns, rows)
    report.page(page, "beside", workload, [shown])
    report.finish(result, workload, out)


def traffic(requests: Sequence[Request], share: float, kind: str) -> tuple[list[Request], list]:
    """The requests as they are sent, and which of them are companions."""
    deterministic, sampling = COMPANIONS[kind]
    companions = [request.deterministic for request in mark(requests, share)]
    sent = [
        replace(request, deterministic=deterministic, sampling=sampling) if companion else request
        for request, companion in zip(requests, companions, strict=True)
    ]
    return sent, companions


def measure(
    target: Target,
    source: options.Source,
    share: float,
    rounds: int,
    count: int,
    in_flight: int,
) -> dict[str, list[float]]:
    """By kind of companion, round by round; in a round all have the same prompts."""
    warm_up = [replace(r, new_tokens=8) for r in source.requests(in_flight)]
    load.run(target, warm_up, Closed(in_flight))
    speeds: dict[str, list[float]] = {name: [] for name in COMPANIONS}
    for number in range(rounds):
        for kind, of in speeds.items():
            sent, companions = traffic(source.requests(count, number), share, kind)
            with bar(f"round {number + 1}, beside {kind}", count) as advance:
                outcomes = load.run(target, sent, Closed(in_flight), advance)
            of.append(ordinary_tokens_per_s(outcomes, companions))
    return speeds


def ordinary_tokens_per_s(outcomes: Sequence[Outcome], companions: Sequence[bool]) -> float:
    """Of the requests that are no companions."""
    ordinary = [one for one, companion in zip(outcomes, companions, strict=True) if not companion]
    return tokens_per_s(ordinary, outcomes)


def summary(speeds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The JSON: medians of ratios within a round, over ordinary companions that sample."""
    ratios = {
        name: [a / b for a, b in zip(of, speeds[BASE], strict=True)] for name, of in speeds.items()
    }
    medians = {name: statistics.median(values) for name, values in ratios.items()}
    return {"ratio": medians, "ratios": ratios, "ordinary_tokens_per_s": dict(speeds)}


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)
