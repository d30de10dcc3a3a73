"""`llm42 bench divergence`: how far answers under load agree with those alone.

LLM-42 shows the same in its figure 6.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from random import Random
from typing import Annotated, Any, NamedTuple

import typer

from llm42_sglang.cli.bench import load, options, report, servers
from llm42_sglang.cli.bench.load import Closed, Target
from llm42_sglang.cli.bench.outcome import Outcome
from llm42_sglang.cli.bench.recompute import recompute
from llm42_sglang.cli.bench.stats import percentiles
from llm42_sglang.cli.bench.workload import Request, mark
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.progress import bar
from llm42_sglang.repro.output import first_difference

KINDS = ("ordinary", "deterministic")


class Spans(NamedTuple):
    """Tokens over which two answers agree."""

    diverged_at: int | None  # index of the first token that differs; None if no token does
    first: int  # tokens before it
    second: int  # tokens that agree again, place by place, right after it


def divergence(
    context: typer.Context,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts that are compared.")] = 12,
    in_flight: options.InFlight = 16,
    prompt: options.Prompt = "32-512",
    new: options.New = "128",
    mix: options.MixName = None,
    dataset: options.Dataset = None,
    model: options.Model = None,
    seed: options.Seed = 0,
    out: options.Out = None,
    plot: options.Plot = None,
    page: options.Page = None,
) -> None:
    """Where greedy answers under load leave the ones alone; deterministic requests as control.

    Status 1 if a deterministic answer differs. Flags that are not known here go to the server.
    """
    report.require_writable(out, plot, page)
    lengths = options.mix_of(prompt, new, mix)
    source = options.Source.of(lengths, model, dataset, seed)
    requests = source.requests(prompts)
    company = source.requests(max(prompts, in_flight), 1)
    flags = servers.Flags.of(source.model, context.args, 2 * in_flight * lengths.most_tokens)
    workload = source.describe() | {
        "prompts": prompts,
        "company": f"{len(company)} ordinary requests",
        "in_flight": in_flight,
        "flags": " ".join([*flags.everywhere, *flags.ours]),
    }
    with servers.running(llm42=servers.ours(flags)) as targets:
        found = {
            kind: measure(targets["llm42"], mark(requests, share), company, in_flight)
            for kind, share in zip(KINDS, (0, 100), strict=True)
        }
    result = summary(found)
    shown = report.show("alone against under load", workload, COLUMNS, list(_rows(result)))
    picture = partial(draw, found=found, most=lengths.new.most)
    report.plot(plot, 1, picture)
    report.page(page, "divergence", workload, [shown], 1, picture)
    report.finish(result, workload, out)
    if wrong := result["deterministic"]["diverged"]:
        raise UserError(f"{wrong} of {prompts} deterministic answers differ under load")


def measure(
    target: Target, requests: Sequence[Request], company: Sequence[Request], in_flight: int
) -> list[Spans]:
    """Each request alone, then all of them in company, every time from an empty prefix cache."""
    kind = KINDS[requests[0].deterministic]
    with bar(f"{kind}, one after the other", len(requests)) as advance:
        alone = [load.run(target, [one], Closed(1), advance)[0] for one in requests]
    crowd = [*requests, *company]
    order = list(range(len(crowd)))
    Random(42).shuffle(order)
    with bar(f"{kind}, {in_flight} in flight", len(crowd)) as advance:
        shuffled = load.run(target, [crowd[i] for i in order], Closed(in_flight), advance)
    by_place = dict(zip(order, shuffled, strict=True))
    loaded = [by_place[i] for i in range(len(requests))]
    recompute([*alone, *loaded])  # refuses answers that are not verified
    return [_spans_of(a, b) for a, b in zip(alone, loaded, strict=True)]


def spans(left: Sequence[int], right: Sequence[int]) -> Spans:
    """Of two answers of the same length."""
    at = first_difference(left, right)
    if at is None:
        return Spans(None, len(left), 0)
    again = first_difference(left[at + 1 :], right[at + 1 :])
    return Spans(at, at, len(left) - at - 1 if again is None else again)


def summary(found: Mapping[str, Sequence[Spans]]) -> dict[str, Any]:
    """The JSON: per kind how many diverged, and the spans in tokens."""
    return {
        kind: {
            "prompts": len(several),
            "diverged": sum(one.diverged_at is not None for one in several),
            "diverged_at": [one.diverged_at for one in several],
            "first_span": [one.first for one in several],
            "second_span": [one.second for one in several if one.diverged_at is not None],
        }
        for kind, several in found.items()
    }


COLUMNS = ("requests", "prompts", "diverged", "first span P50", "shortest", "second span P50")


def _rows(result: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    for kind, one in result.items():
        first, second = one["first_span"], one["second_span"]
        middle = (percentiles(first).p50, min(first), percentiles(second).p50)
        yield kind, one["prompts"], one["diverged"], *middle


def draw(axes: Sequence[Any], found: Mapping[str, Sequence[Spans]], most: int) -> None:
    """A histogram of first spans, and of second ones of ordinary requests."""
    series = {f"{kind}: first span": [one.first for one in part] for kind, part in found.items()}
    again = [one.second for one in found["ordinary"] if one.diverged_at is not None]
    series["ordinary: second span"] = again
    edges = [most * i / 16 for i in range(17)]
    axes[0].hist(list(series.values()), bins=edges, label=list(series))
    axes[0].set(xlabel="tokens that agree with the answer alone", ylabel="prompts")
    axes[0].legend()


def _spans_of(alone: Outcome, loaded: Outcome) -> Spans:
    return spans(alone.output_ids, loaded.output_ids)
