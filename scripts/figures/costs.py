"""What forwards and hashes cost, and what follows from it in the simulator."""

import statistics
from collections.abc import Iterable, Iterator, Sequence

from scripts.figures.parts import Result, command, head, model, percent, table

SWEPT = 6  # settings of the sweep that are shown, besides the default's place


def attention(result: Result) -> Iterator[str]:
    """The section on `research/attention.py`."""
    yield from head("The CPU attention backend", result)
    yield (
        f"Random layers of SmolLM2-135M, T = {result['page']}, medians of {result['rounds']} "
        f"rounds. A canonical pass with all slots on page 20, over one on page 0:"
    )
    yield ""
    far = result["far_page_over_page_0"]
    groups = list(next(iter(far.values())))
    rows = [
        [f"`{backend}`", *(f"{by_group[group]:.2f}" for group in groups)]
        for backend, by_group in far.items()
    ]
    yield from table(("backend", *groups), rows)
    yield ""
    decode = ", ".join(
        f"{ratios['layer']:.2f} ({name})"
        for name, ratios in result["decode_over_torch_native"].items()
    )
    yield (
        f"A layer of a decode step, `llm42_cpu` over `torch_native`: {decode}; in brackets "
        f"the number of requests and their tokens."
    )


def passes(result: Result) -> Iterator[str]:
    """The section on `llm42 bench passes`."""
    yield from head("A canonical pass and a decode step", result)
    yield "Milliseconds of a pass on page 0 and on page 20, by its slots:"
    yield ""
    yield from _costs(result, "pass")
    yield ""
    yield "Milliseconds of a decode step at 64 and at 512 tokens, by its requests:"
    yield ""
    yield from _costs(result, "decode")
    yield ""
    yield _audit(result)
    yield ""
    yield "Flags that follow, by `llm42 bench passes`:"
    yield ""
    for advice in result["recommended"].values():
        page, group, wait = (advice[name] for name in ("page", "group", "wait"))
        yield f"    llm42 serve --llm42-page {page} --llm42-group {group} --llm42-wait {wait}"


def _audit(result: Result) -> str:
    """What the running audit adds where no pass has a free slot; T and its frequency by default."""
    page, one_in, requests = 32, 32, 16
    costs = result["costs_s"][str(page)]
    steps = page * one_in // requests  # decode steps of so many requests, for each audited page
    share = costs["pass"]["1"]["20"] / (steps * costs["decode"][str(requests)]["512"])
    return (
        f"So the audit of one page in {one_in} adds at most {percent(share)} to decode steps of "
        f"{requests} requests: one pass of one slot in {steps} steps. It adds nothing where a pass "
        f"has a free slot."
    )


def _costs(result: Result, kind: str) -> Iterator[str]:
    """A row for each T."""
    costs = result["costs_s"]
    widths = list(next(iter(costs.values()))[kind])
    rows = [
        [page, *(_milliseconds(by_kind[kind][width].values()) for width in widths)]
        for page, by_kind in costs.items()
    ]
    yield from table(("T", *widths), rows)


def _milliseconds(seconds: Iterable[float]) -> str:
    return ", ".join(f"{1e3 * one:.0f}" for one in seconds)


def digest(result: Result) -> Iterator[str]:
    """The section on `research/digest.py`."""
    yield from head("Hashing the weights", result)
    written, again = (
        result[name] / result["bytes"] for name in ("written_bytes", "hashed_again_bytes")
    )
    yield (
        f"{result['bytes'] / 1e9:.2f} GB of bf16 in {result['tensors']} tensors, in memory; "
        f"{result['rounds']} rounds. An update writes {percent(written)} of the bytes. The tensor "
        f"that they are a part of is hashed again: {percent(again)}. In brackets least and most."
    )
    yield ""
    faster = result["times_as_fast"]
    rows = [
        [name, _median(seconds, ".3g"), _median(faster[name], ".3g") if name in faster else ""]
        for name, seconds in result["seconds_per_gb"].items()
    ]
    yield from table(("hash", "seconds per GB of the model", "times as fast as SHA-256"), rows)


def claims(result: Result) -> Iterator[str]:
    """The section on `research/claims.py`."""
    yield from head("Checking claims", result)
    yield (
        f"{model(result)}; answers of {result['new_tokens']} tokens to prompts of "
        f"{result['prompt_tokens']} tokens; {result['rounds']} rounds. In brackets least and most."
    )
    yield ""
    rows = []
    for in_flight, seconds in result["in_flight"].items():
        made, checked = seconds["generated_s"], seconds["checked_s"]
        faster = [a / b for a, b in zip(made, checked, strict=True)]
        figures = (_median(made, ".1f"), _median(checked, ".2f"), _median(faster, ".1f"))
        rows.append([in_flight, *figures])
    columns = ("in flight", "seconds to generate them", "to check them", "times as fast")
    yield from table(columns, rows)


def _median(values: Sequence[float], form: str) -> str:
    middle, least, most = (
        format(value, form) for value in (statistics.median(values), min(values), max(values))
    )
    return f"**{middle}** ({least} to {most})"


def sweep(result: Result) -> Iterator[str]:
    """The section on `research/sweep.py`."""
    if result["costs_from"] is None:
        raise SystemExit(
            "sweep.json is of guessed costs: give research/sweep.py a file of measured ones"
        )
    yield from head("Where the defaults come from", result["costs_from"])
    yield (
        "The command above measured the costs, and the one below simulated a server that verifies "
        "every token. The default of that time is in bold."
    )
    yield ""
    yield f"    {command(result)}"
    yield ""
    settings, default = result["settings"], result["default"]
    best = settings[0]["tokens_per_s"]
    rows = []
    for place, row in enumerate(settings, 1):
        shape = [row["page"], row["group"], row["wait"]]
        if place <= SWEPT or shape == default:
            first = f"**{place}**" if shape == default else str(place)
            speed = f"{row['tokens_per_s'] / best:.3f}"
            rows.append([first, *map(str, shape), speed, percent(row["recompute_rate"])])
    yield from table(("place", "T", "G", "wait", "tokens/s over the best", "recomputed"), rows)


def simulation(result: Result) -> Iterator[str]:
    """The section on `research/simulate.py`."""
    runs = result["runs"]
    offline, online = runs["offline, all deterministic"], runs["online, half deterministic"]
    workload = offline["workload"]
    (ordinary,) = runs["offline, none deterministic"]["reports"]
    yield "## Canonical steps, and the paper's policy, simulated"
    yield ""
    yield f"    {command(result)}"
    yield ""
    yield (
        f"Protocol and policy are the real ones, without an engine. The costs are guesses for an "
        f"8B model on one H100 (`research/simulator/costs.py`). A load has {workload['requests']} "
        f"requests, with prompts of {workload['prompt_mean']} tokens and answers of "
        f"{workload['output_mean']} in the mean; {100 * workload['flip_rate']:g} % of the "
        f"candidates are wrong. `synchronous` is LLM-42's artifact as this project reads it."
    )
    yield ""
    rows = [
        [
            batch["system"],
            f"{batch['output_tokens_per_s']:.0f}",
            f"{batch['output_tokens_per_s'] / ordinary['output_tokens_per_s']:.2f}",
            percent(batch["canonical_step_rate"]),
            percent(batch["recompute_per_output"]),
            f"{half['deterministic']['ttft_p99_s']:.1f} s",
        ]
        for batch, half in zip(offline["reports"], online["reports"], strict=True)
    ]
    columns = (
        *("system", "tokens/s, all deterministic", "over ordinary serving"),
        *("tokens from canonical steps", "recomputed per output token"),
        "half of them, Poisson: P99 to their first token",
    )
    yield from table(columns, rows)
    yield ""
    verified, *others = offline["reports"]
    stepped = max(others, key=lambda report: report["canonical_step_rate"])
    gain = stepped["output_tokens_per_s"] / verified["output_tokens_per_s"]
    yield (
        f"Where nearly all tokens come from canonical steps, the server makes **{gain:.2f}** times "
        f"the tokens/s of the first row, which verifies every token."
    )
    yield ""
    yield from _windows(result["paper_recompute_per_output"], runs["window x group"])


def _windows(paper: Sequence[float], run: Result) -> Iterator[str]:
    """LLM-42's table beside the simulated ones; reports alternate aligned and sliding."""
    yield (
        f"Window x group, with answers of {run['workload']['output_mean']} tokens in the mean: "
        f"tokens recomputed per output token, and tokens/s. The rate of wrong candidates is fitted "
        f"to LLM-42's column, so compare how the columns grow."
    )
    yield ""
    rows = [
        [
            sliding["system"].removeprefix("sliding "),
            *map(percent, (rate, sliding["recompute_per_output"], aligned["recompute_per_output"])),
            *(f"{report['output_tokens_per_s']:.0f}" for report in (sliding, aligned)),
        ]
        for aligned, sliding, rate in zip(
            run["reports"][::2], run["reports"][1::2], paper, strict=True
        )
    ]
    columns = (
        *("window x group", "LLM-42, measured", "sliding windows", "aligned pages"),
        *("sliding, tokens/s", "aligned, tokens/s"),
    )
    yield from table(columns, rows)
