"""`llm42 bench drafts`: what `--llm42-drafts ngram` gains, and what it costs in vain."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from statistics import median
from typing import Annotated, Any, NamedTuple

import typer

from llm42_sglang.cli.bench import load, options, report, servers
from llm42_sglang.cli.bench.load import Load, Target
from llm42_sglang.cli.bench.outcome import Outcome, recompute, tokens_per_s
from llm42_sglang.cli.bench.workload import LoadRequest, Source, mark
from llm42_sglang.cli.output import Out, require_writable, say
from llm42_sglang.errors import UserError

SERVERS = ("stock", "llm42", "drafts")  # the second one has none
TEXTS = ("copy", "edit", "fresh")
ON = ("--llm42-drafts", "ngram")
WARM_UP_TOKENS = 8


class Asked(NamedTuple):
    """What is asked, and of how many at once."""

    text: str  # one of TEXTS
    in_flight: int

    def requests(self, source: Source, count: int, round_number: int) -> list[LoadRequest]:
        """So many for each that is in flight, all deterministic."""
        count *= self.in_flight
        if self.text != "fresh":
            return mark(source.copies(count, round_number, edits=self.text == "edit"), 100)
        plain = source.requests(count, round_number)
        return mark([replace(request, temperature=1.0) for request in plain], 100)


# By what was asked and by server, the loads of all rounds in order.
Loads = Mapping[Asked, Mapping[str, Sequence[Sequence[Outcome]]]]

LoadList = Annotated[
    str,
    typer.Option(
        "--loads",
        help="With commas: what is asked, and how many requests are in flight. copy: a"
        " prompt is a text twice and its beginning, answered at temperature 0. edit: the second"
        " time a token in 16 is another, and the beginning is that one's. fresh: a text alone,"
        " answered at temperature 1, so that little repeats itself.",
    ),
]
Each = Annotated[int, typer.Option("--requests", min=1, help="Requests for each in flight.")]


def drafts(
    context: typer.Context,
    loads: LoadList = "copy:1,copy:8,edit:1,edit:8,fresh:8",
    requests: Each = 1,
    prompt: options.Prompt = "400",
    new: options.New = "128",
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
    asked = parse(loads)
    require_writable(out)
    source = Source.of(prompt, new, model, seed)
    source.requests(1)  # raises now what it would raise after the servers have started
    most = max(one.in_flight for one in asked) * (3 * source.prompt.most + source.new.most)
    flags = servers.Flags.of(source.model, context.args, most)
    workload = source.describe() | {
        "loads": ", ".join(f"{one.text} {one.in_flight}" for one in asked),
        "requests": requests * sum(one.in_flight for one in asked),
        "rounds": rounds,
        "flags": flags.text,
    }
    with servers.running(
        stock=servers.stock(flags),
        llm42=servers.ours(flags),
        drafts=servers.ours(flags, "drafts", ON),
    ) as targets:
        measured = measure(targets, source, asked, requests, rounds)
    result = {"points": [point(one, of_load) for one, of_load in measured.items()]}
    report.show("output tokens per second", workload, COLUMNS, list(_rows(result)))
    report.finish(result, workload, out)


def parse(text: str) -> list[Asked]:
    """The loads of a list with commas. Raises UserError."""
    loads = []
    for part in map(str.strip, text.split(",")):
        name, _, number = part.partition(":")
        if name not in TEXTS or not number.isdecimal() or not int(number):
            known = " or ".join(f"{text}:N" for text in TEXTS)
            raise UserError(f"--loads takes {known}, N in flight, not {part!r}")
        loads.append(Asked(name, int(number)))
    return list(dict.fromkeys(loads))


def measure(
    targets: Mapping[str, Target], source: Source, asked: Sequence[Asked], count: int, rounds: int
) -> Loads:
    """Warm up every server, and load one after the other in each round.

    Raises UserError if an answer differs between the servers with and without drafts.
    """
    loads: dict[Asked, dict[str, list[list[Outcome]]]] = {
        one: {name: [] for name in SERVERS} for one in asked
    }
    for name in SERVERS:
        short = [replace(r, new_tokens=WARM_UP_TOKENS) for r in asked[0].requests(source, 1, 0)]
        load.run(targets[name], short, Load.closed(asked[0].in_flight), f"warming up {name}")
    for number, one in product(range(rounds), asked):
        requests = one.requests(source, count, number)
        for name in SERVERS[:: -1 if number % 2 else 1]:
            title = f"round {number + 1}, {one.text}, {one.in_flight} in flight, {name}"
            outcomes = load.run(targets[name], requests, Load.closed(one.in_flight), title)
            say(f"{title}: {tokens_per_s(outcomes):.1f} tokens/s")
            loads[one][name].append(outcomes)
        _require_same(*(loads[one][name][-1] for name in SERVERS[1:]))
    return loads


def _require_same(without: Sequence[Outcome], drafted: Sequence[Outcome]) -> None:
    if [one.output_ids for one in without] != [one.output_ids for one in drafted]:
        raise UserError("drafts have changed an answer: this is an error in llm42, report it")


def point(asked: Asked, loads: Mapping[str, Sequence[Sequence[Outcome]]]) -> dict[str, Any]:
    """One load in the JSON. Ratios are the speed with drafts over another, round by round."""
    speeds = {name: [*map(tokens_per_s, of_server)] for name, of_server in loads.items()}
    verified = {
        name: recompute(outcome for outcomes in loads[name] for outcome in outcomes)
        for name in SERVERS[1:]
    }
    return {
        "asked": asked.text,
        "in_flight": asked.in_flight,
        "ratios": {
            name: [fast / slow for fast, slow in zip(speeds["drafts"], speeds[name], strict=True)]
            for name in SERVERS[:2]
        },
        "tokens_per_s": speeds,
        "rollbacks": {name: one.rollbacks for name, one in verified.items()},
        "recompute_rate": {name: one.rate for name, one in verified.items()},
        "canonical_step_rate": {name: one.canonical_step_rate for name, one in verified.items()},
    }


COLUMNS = ("asked", "in flight", "server", "tokens/s", "drafts over it", "least", "most")


def _rows(result: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    for one, name in product(result["points"], SERVERS):
        ratios = one["ratios"].get(name)
        compared = [median(ratios), min(ratios), max(ratios)] if ratios else [None] * 3
        speed = median(one["tokens_per_s"][name])
        yield one["asked"], one["in_flight"], name, speed, *compared
