"""What servers under load did: throughput and latency beside stock SGLang."""

import re
from collections.abc import Iterator
from itertools import chain
from statistics import median

from scripts.figures.parts import Result, head, machine, model, percent, rounds, table


def throughput(result: Result) -> Iterator[str]:
    """The section on `llm42 bench throughput`."""
    yield from head("Throughput", result)
    yield "Output tokens per second, llm42's over stock SGLang's: the median of the rounds."
    yield ""
    shares = list(_shares(result))
    yield from table(("deterministic", *SHARE_COLUMNS), shares)
    yield ""
    yield f"Rollbacks in this run: {result['rollbacks']}."
    if faster := result["speedup_over_serial"]:
        yield (
            f"At {result['speedup_at_share']} % it is **{faster:.2f}** times as fast as stock "
            f"SGLang with one request at a time."
        )


SHARE_COLUMNS = (
    *("llm42 over stock", "least, most", "tokens/s, llm42", "tokens/s, stock"),
    *("tokens from canonical steps", "recomputed"),
)


def _shares(result: Result) -> Iterator[list[str]]:
    """A row for each share of deterministic requests."""
    steps = result.get("canonical_step_rate_by_share", {})  # older files do not say
    for share, ratios in result["ratios_to_stock"].items():
        speeds = (result["tokens_per_s"][server][share] for server in ("llm42", "stock"))
        yield [
            f"{share} %",
            f"**{result['ratio_to_stock'][share]:.3f}**",
            f"{min(ratios):.3f}, {max(ratios):.3f}" if len(ratios) > 1 else "",
            *(f"{median(several):.1f}" for several in speeds),
            percent(steps.get(share)),
            percent(result["recompute_rate_by_share"][share]),
        ]


def turns(*results: Result) -> Iterator[str]:
    """The section on `research/turns.py`: a row for each share of each."""
    results = tuple(sorted(results, key=lambda one: -one["workload"]["in_flight"]))
    yield from head("Throughput, in turns", *results)
    yield "Both servers have the same load at the same time. One runs for a second, then the other."
    yield "So both have the same neighbours on a shared host. The prompts are those of above."
    yield ""
    rows = [
        [
            *(str(one["workload"]["in_flight"]), _measured(one), f"{share} %"),
            *(f"**{median(ratios):.3f}**", f"{min(ratios):.3f}, {max(ratios):.3f}"),
            *(percent(one[name][share]) for name in BY_SHARE),
        ]
        for one in results
        for share, ratios in one["ratios_to_stock"].items()
    ]
    columns = ("in flight", "measured", "deterministic", *SHARE_COLUMNS[:2], *SHARE_COLUMNS[-2:])
    yield from table(columns, rows)


BY_SHARE = ("canonical_step_rate_by_share", "recompute_rate_by_share")


def other_throughput(*results: Result) -> Iterator[str]:
    """The section on other runs of it: a row for each share of each."""
    results = tuple(sorted(results, key=lambda one: (one["workload"]["in_flight"], _flags(one))))
    yield from head("Other loads and settings", *results)
    yield "The same prompts, with other numbers of requests in flight or of new tokens, or with"
    yield "other flags of our server. With two new tokens a request is little more than its prompt."
    yield ""
    rows = [
        [*(str(one["workload"][of]) for of in ("in_flight", "new_tokens")), _flags(one), *row]
        for one in results
        for row in ([_measured(one), *of_share] for of_share in _shares(one))
    ]
    columns = ("in flight", "new tokens", "flags", "measured", "deterministic", *SHARE_COLUMNS)
    yield from table(columns, rows)


def _measured(result: Result) -> str:
    """How often, and the rollbacks in all of that."""
    return f"{rounds(result['workload'])}, {result['rollbacks']} rollbacks"


def _flags(result: Result) -> str:
    """Those of llm42's server alone."""
    return " ".join(re.findall(r"--llm42-\S+(?: (?!--)\S+)?", result["workload"]["flags"]))


def drafts(*results: Result) -> Iterator[str]:
    """The section on `llm42 bench drafts`: a row for each load of each run."""
    yield from head("Drafts", *results)
    yield "`--llm42-drafts ngram` over stock SGLang, and over the same server without drafts: the"
    yield "median of the rounds, and in brackets least and most. All requests are deterministic."
    yield "Their answers are the same with and without drafts. `copy` goes on with a text that is"
    yield "twice in its prompt. In `edit` the second time has another token at every 16th place;"
    yield "the answer goes on with that one. `fresh` is drawn at temperature 1, so that little"
    yield "repeats itself."
    yield ""
    rows = [
        [
            one["asked"],
            str(one["in_flight"]),
            f"{result['workload']['prompt_tokens']}, {result['workload']['new_tokens']}",
            f"{result['workload']['rounds']}",
            *(_with_range(one["ratios"][name]) for name in ("stock", "llm42")),
            *(f"{median(one['tokens_per_s'][name]):.1f}" for name in ("drafts", "llm42", "stock")),
        ]
        for result in results
        for one in result["points"]
    ]
    speeds = ("tokens/s, drafts", "tokens/s, without", "tokens/s, stock")
    columns = ("asked", "in flight", "tokens of a text, of an answer", "rounds")
    yield from table((*columns, "over stock", "over no drafts", *speeds), rows)


def _with_range(ratios: list[float]) -> str:
    return f"**{median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})"


# -- Latency --


def latency(result: Result) -> Iterator[str]:
    """The section on `llm42 bench latency`."""
    staggered = "staggered" in result["workload"]["loads"]
    yield from head("Latency, answers end one by one" if staggered else "Latency", result)
    yield "llm42's over stock's; in brackets the seconds, llm42's and stock's. A gap is the time"
    yield "between two messages of a stream. Percentiles are over the requests of all rounds."
    yield ""
    columns = [
        (load, share) for load, by_share in result["p99_ttft_ratio"].items() for share in by_share
    ]
    points = [_points(result, *column) for column in columns]
    firsts = [result["p99_ttft_ratio"][load][share] for load, share in columns]
    rows = [["first token, all requests, P99", *(f"**{ratio:.2f}**" for ratio in firsts)]]
    for what, metric, percentile in (
        ("gap, {}, P50", "gap", "p50"),
        ("gap, {}, P99", "gap", "p99"),
        ("whole answer, {}, P50", "e2e", "p50"),
    ):
        for kind in ("ordinary", "deterministic"):
            cells = [_of_stock(at, kind, metric, percentile) for at in points]
            rows.append([what.format(kind), *cells])
    names = [f"{load}, {share} % deterministic" for load, share in columns]
    yield from table(("what, of whom", *names), rows)
    yield ""
    if (rollbacks := result.get("rollbacks")) is not None:  # older files do not say
        yield (
            f"Rollbacks in this run: {rollbacks}. Of the deterministic tokens "
            f"{percent(result['canonical_step_rate'])} came from canonical steps."
        )
    between = result.get("p99_itl_ordinary_ratios", {})  # older files do not say
    for (load, share), at in zip(columns, points, strict=True):
        if ratios := between.get(load, {}).get(share):
            yield (
                f"{load}, {share} %: P99 between two tokens of ordinary requests over stock's, "
                f"within a round: {_with_range(ratios)}."
            )
        if ratio := _gap_over_ordinary(at):
            yield (
                f"{load}, {share} %: on llm42's server the median gap of deterministic requests "
                f"is **{ratio:.2f}** times that of the ordinary ones beside them."
            )


Points = dict[tuple[str, str], dict]  # by server and kind of request


def _points(result: Result, load: str, share: str) -> Points:
    """What was measured at a load and a share."""
    return {
        (one["server"], one["kind"]): one
        for one in result["points"]
        if (one["load"], f"{one['share']:g}") == (load, share)
    }


def _gap_over_ordinary(points: Points) -> float | None:
    """On llm42's server: the median gap of deterministic requests over that of ordinary ones."""
    kinds = [("llm42", kind) for kind in ("deterministic", "ordinary")]
    if not all(kind in points for kind in kinds):
        return None
    deterministic, ordinary = (points[kind]["gap"]["p50"] for kind in kinds)
    return deterministic / ordinary


def _of_stock(points: Points, kind: str, metric: str, percentile: str) -> str:
    """A ratio, and the seconds that it is of; empty where there is no such request, or no gap."""
    if ("stock", kind) not in points:
        return ""
    ours, stock = (points[server, kind][metric][percentile] for server in ("llm42", "stock"))
    if ours is None or stock is None:
        return ""
    return f"**{ours / stock:.2f}** ({ours:.3g}, {stock:.3g})"


# -- README --


def summary(latency: Result, *turns: Result) -> Iterator[str]:
    """The lines of the README. turns: the first has the most requests in flight."""
    most, *fewer = sorted(turns, key=lambda one: -one["workload"]["in_flight"])
    ratios = (f"**{ratio:.2f}** with {share} %" for share, ratio in most["ratio_to_stock"].items())
    yield (
        f"- Tokens per second over stock SGLang's: {', '.join(ratios)} of the requests "
        f"deterministic, {most['workload']['in_flight']} in flight."
    )
    if fewer:
        few = (
            f"**{ratio:.2f}** with {one['workload']['in_flight']} in flight"
            for one in fewer
            for ratio in [one["ratio_to_stock"]["100"]]
        )
        yield f"- Where all requests are deterministic, the ratio is {', '.join(few)}."
    ((load, firsts), *_) = latency["p99_ttft_ratio"].items()
    largest, first = [*firsts.items()][-1]
    gaps = latency["p99_gap_ordinary_ratio"][load].items()
    spreads = latency["p99_gap_ordinary_ratios"][load]
    between = [
        f"**{gap:.2f}** ({min(spreads[share]):.2f} to {max(spreads[share]):.2f}) with {share} %"
        for share, gap in gaps
        if gap is not None
    ]
    yield (
        f"- The 99th percentile of the time to the first token is **{first:.2f}** times stock's "
        f"with {largest} % deterministic. That of the time between two tokens of ordinary requests "
        f"is {', '.join(between)}."
    )
    for share in firsts:
        if ratio := _gap_over_ordinary(_points(latency, load, share)):
            yield (
                f"- With {share} % deterministic, their median time between two messages of a "
                f"stream is **{ratio:.2f}** times that of the ordinary requests beside them."
            )
    yield f"- {_provenance(latency, most, *fewer)}"


def _provenance(latency: Result, most: Result, *fewer: Result) -> str:
    """Where it was measured, how often, and what is only known of all loads together."""
    machines = dict.fromkeys(machine(one["hardware"]) for one in (most, latency))
    each, single = most["workload"], list(chain(*most["ratios_to_stock"].values()))
    rollbacks = (
        f"{one['rollbacks']} with {one['workload']['in_flight']}" for one in (most, *fewer)
    )
    return (
        f"Measured on {'; latency on '.join(machines)}: {model(each)}. With {each['in_flight']} in "
        f"flight there were {rounds(each)}, for latency {rounds(latency['workload'])}. Single "
        f"rounds of throughput gave {min(single):.2f} to {max(single):.2f}. Canonical steps gave "
        f"{percent(most['canonical_step_rate'])} of the deterministic tokens. Rollbacks in the "
        f"runs of throughput: {', '.join(rollbacks)} in flight."
    )
