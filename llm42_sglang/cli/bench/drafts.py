"""`llm42 bench drafts`: what `--llm42-drafts ngram` gains, and what it costs in vain."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Annotated, Any

import typer

from llm42_sglang.cli.bench import load, options, report, servers
from llm42_sglang.cli.bench.load import Load, Target
from llm42_sglang.cli.bench.outcome import Outcome, recompute, tokens_per_s
from llm42_sglang.cli.bench.workload import LoadRequest, Source, mark
from llm42_sglang.cli.output import Out, require_writable, say
from llm42_sglang.errors import UserError

SERVERS = ("stock", "llm42", "drafts")  # the second one has none
TEXTS = ("copy", "fresh")
ON = ("--llm42-drafts", "ngram")
WARM_UP_TOKENS = 8

# By server, the loads of all rounds in order.
Loads = Mapping[str, Sequence[Sequence[Outcome]]]

Text = Annotated[
    str,
    typer.Option(
        help="copy: a prompt is a text twice and its beginning, answered at temperature 0; fresh:"
        " a text alone, answered at temperature 1, so that hardly anything repeats itself."
    ),
]


def drafts(
    context: typer.Context,
    text: Text = "copy",
    requests: options.Requests = 4,
    in_flight: options.InFlight = 1,
    prompt: options.Prompt = "400",
    new: options.New = "256",
    rounds: options.Rounds = 3,
    model: options.Model = None,
    seed: options.Seed = 0,
    out: Out = None,
) -> None:
    """Measure throughput with drafts, without them, and of stock SGLang.

    All requests are deterministic. In a round all servers get the same ones, one server after the
    other. The answers with and without drafts must be the same. Other flags are passed on to the
    servers.
    """
    if text not in TEXTS:
        raise UserError(f"--text takes {' or '.join(TEXTS)}, not {text!r}")
    require_writable(out)
    source = Source.of(prompt, new, model, seed)
    most = 3 * source.prompt.most + source.new.most
    flags = servers.Flags.of(source.model, context.args, 2 * in_flight * most)
    work = [asked(source, text, requests, number) for number in range(rounds)]
    workload = source.describe() | {
        "answers": text,
        "requests": requests,
        "in_flight": in_flight,
        "rounds": rounds,
        "flags": flags.text,
    }
    with servers.running(
        stock=servers.stock(flags),
        llm42=servers.ours(flags),
        drafts=servers.ours(flags, "drafts", ON),
    ) as targets:
        loads = measure(targets, work, Load.closed(in_flight))
    result = summary(loads)
    report.show("output tokens per second", workload, COLUMNS, list(_rows(result)))
    report.finish(result, workload, out)


def asked(source: Source, text: str, count: int, number: int) -> list[LoadRequest]:
    """The requests of a round."""
    if text == "copy":
        return mark(source.copies(count, number), 100)
    return mark([replace(one, temperature=1.0) for one in source.requests(count, number)], 100)


def measure(
    targets: Mapping[str, Target], work: Sequence[Sequence[LoadRequest]], loop: Load
) -> Loads:
    """Warm up every server, and load one after the other in each round.

    Raises UserError if an answer differs between the servers with and without drafts.
    """
    loads: dict[str, list[list[Outcome]]] = {name: [] for name in SERVERS}
    for name in SERVERS:
        short = [replace(request, new_tokens=WARM_UP_TOKENS) for request in work[0]]
        load.run(targets[name], short, loop, f"warming up {name}")
    for number, requests in enumerate(work):
        for name in SERVERS[:: -1 if number % 2 else 1]:
            title = f"round {number + 1}, {loop.name}, {name}"
            outcomes = load.run(targets[name], requests, loop, title)
            say(f"{title}: {tokens_per_s(outcomes):.1f} tokens/s")
            loads[name].append(outcomes)
        without, drafted = (loads[name][-1] for name in SERVERS[1:])
        if [one.output_ids for one in without] != [one.output_ids for one in drafted]:
            raise UserError("drafts have changed an answer: this is an error in llm42, report it")
    return loads


def summary(loads: Loads) -> dict[str, Any]:
    """The JSON. Ratios are those of the server with drafts; the medians are of the rounds'."""
    speeds = {name: [*map(tokens_per_s, of_server)] for name, of_server in loads.items()}
    ratios = {
        f"ratios_to_{name}": [
            fast / slow for fast, slow in zip(speeds["drafts"], speeds[name], strict=True)
        ]
        for name in SERVERS[:2]
    }
    verified = {
        name: recompute(outcome for outcomes in loads[name] for outcome in outcomes)
        for name in SERVERS[1:]
    }
    return {
        "ratio_to_stock": median(ratios["ratios_to_stock"]),
        "ratio_to_llm42": median(ratios["ratios_to_llm42"]),
        **ratios,
        "tokens_per_s": speeds,
        "rollbacks": {name: one.rollbacks for name, one in verified.items()},
        "recompute_rate": {name: one.rate for name, one in verified.items()},
        "canonical_step_rate": {name: one.canonical_step_rate for name, one in verified.items()},
    }


COLUMNS = ("server", "tokens/s", "drafts over it", "least", "most", "canonical steps %")


def _rows(result: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    for name in SERVERS:
        ratios = result.get(f"ratios_to_{name}")
        compared = [median(ratios), min(ratios), max(ratios)] if ratios else [None] * 3
        rate = result["canonical_step_rate"].get(name)
        speed = median(result["tokens_per_s"][name])
        yield name, speed, *compared, None if rate is None else 100 * rate
