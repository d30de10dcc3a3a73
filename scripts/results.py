"""The figures of docs/performance.md and README.md, from what benchmarks wrote to docs/results.

Usage: python scripts/results.py: puts them in their places. A test compares the pages with this.
Standard library only.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
BEGIN, END = "<!-- begin: scripts/results.py -->", "<!-- end -->"
SWEPT = 6  # settings of the sweep that are shown, besides the default's place


def figures(folder: Path = RESULTS) -> str:
    """Markdown: a section a file, each with its command and its hardware."""
    sections = []
    for name, render in SECTIONS.items():
        file = folder / f"{name}.json"
        if file.is_file():
            result = json.loads(file.read_text(encoding="utf-8"))
            sections.append("\n".join(render(result)))
    return "\n\n".join(sections)


def _head(title: str, result: dict[str, Any]) -> Iterator[str]:
    hardware = result["hardware"]
    yield f"## {title}"
    yield ""
    yield f"    {result['command']}"
    yield ""
    yield (
        f"On {hardware['cores']} cores of {_cpu(hardware)}, {hardware['memory_gib']} GiB, "
        f"{_gpus(hardware)}; torch {hardware['torch']}, SGLang {hardware['sglang']}."
        f"{_load(result.get('workload', {}))}"
    )
    yield ""


def _cpu(hardware: dict[str, Any]) -> str:
    return f"{hardware['cpu']} ({hardware['simd']})" if "simd" in hardware else hardware["cpu"]


def _gpus(hardware: dict[str, Any]) -> str:
    names = hardware.get("gpus", "none")  # older files do not say: there was none
    return "no GPU" if names == "none" else names


def _load(workload: dict[str, Any]) -> str:
    if "rounds" not in workload:
        return ""
    load = workload.get("loads") or f"{workload['in_flight']} in flight"
    load = load.replace("/s", " requests/s, Poisson arrivals")
    return (
        f" {load}, {workload['requests']} requests a round, prompts of {workload['prompt_tokens']} "
        f"tokens, {workload['new_tokens']} new tokens; rounds: {workload['rounds']}."
    )


def _grid(corner: str, cells: dict[str, dict[str, str]]) -> Iterator[str]:
    """A table by row and column."""
    columns = list(next(iter(cells.values())))
    yield f"| {corner} | {' | '.join(columns)} |"
    yield "|---" * (1 + len(columns)) + "|"
    for row, by_column in cells.items():
        yield f"| {row} | {' | '.join(by_column.values())} |"


def _throughput(result: dict[str, Any]) -> Iterator[str]:
    yield from _head("Throughput", result)
    cells = {
        f"{share} %": {
            "tokens/s over stock's": f"**{ratio:.3f}**",
            "least, most": f"{min(rounds):.3f}, {max(rounds):.3f}",
        }
        for share, ratio in result["ratio_to_stock"].items()
        for rounds in [result["ratios_to_stock"][share]]
    }
    if result["workload"]["rounds"] == 1:
        for of_share in cells.values():
            del of_share["least, most"]
    yield from _grid("deterministic", cells)
    yield ""
    yield (
        f"At {result['speedup_at_share']} % it is **{result['speedup_over_serial']:.2f}** times as "
        f"fast as one request at a time. Recomputed: {100 * result['recompute_rate']:.1f} % of the "
        f"tokens made for deterministic requests, {result['rollbacks']} rollbacks."
    )


def _latency(result: dict[str, Any]) -> Iterator[str]:
    yield from _head("Latency", result)
    yield "Over stock's; in brackets the seconds, ours and stock's."
    yield ""
    cells = {
        f"{load}, {share} %": {
            "to the first token, all, P99": "" if ratio is None else f"**{ratio:.2f}**",
            "between two tokens, ordinary, P99": _of_stock(points, "ordinary", "itl", "p99"),
            "whole answer, ordinary, P50": _of_stock(points, "ordinary", "e2e", "p50"),
            "whole answer, deterministic, P50": _of_stock(points, "deterministic", "e2e", "p50"),
        }
        for load, by_share in result["p99_ttft_ratio"].items()
        for share, ratio in by_share.items()
        for points in [_points(result, load, share)]
    }
    yield from _grid("load, deterministic", cells)


def _points(result: dict[str, Any], load: str, share: str) -> dict[tuple[str, str], dict]:
    """What was measured at a load and a share, by server and kind."""
    return {
        (one["server"], one["kind"]): one
        for one in result["points"]
        if (one["load"], f"{one['share']:g}") == (load, share)
    }


def _of_stock(points: dict[tuple[str, str], dict], kind: str, metric: str, percentile: str) -> str:
    """A ratio, and the seconds that it is of; empty where there is no such request, or no gap."""
    if ("stock", kind) not in points:
        return ""
    ours, stock = (points[server, kind][metric][percentile] for server in ("llm42", "stock"))
    if ours is None or stock is None:
        return ""
    return f"**{ours / stock:.2f}** ({ours:.2f}, {stock:.2f})"


def _passes(result: dict[str, Any]) -> Iterator[str]:
    yield from _head("A canonical pass and a decode step", result)
    yield "| T | slots | ms a pass, by page | ms a row |"
    yield "|---|---|---|---|"
    for page, costs in result["costs_s"].items():
        for width, places in costs["pass"].items():
            row = 1e3 * sum(places.values()) / len(places) / int(width) / int(page)
            yield f"| {page} | {width} | {_ms(places)} | {row:.2f} |"
    yield ""
    yield "| T | requests | ms a decode step, by context |"
    yield "|---|---|---|"
    for page, costs in result["costs_s"].items():
        for width, places in costs["decode"].items():
            yield f"| {page} | {width} | {_ms(places)} |"
    yield ""
    yield "Flags that follow, by `llm42 bench passes`:"
    yield ""
    for advice in result["recommended"].values():
        page, group, wait = (advice[name] for name in ("page", "group", "wait"))
        yield f"    llm42 serve --llm42-page {page} --llm42-group {group} --llm42-wait {wait}"


def _ms(places: dict[str, float]) -> str:
    return ", ".join(f"{1e3 * s:.0f} ({place})" for place, s in places.items())


def _attention(result: dict[str, Any]) -> Iterator[str]:
    yield from _head("The CPU attention backend", result)
    yield (
        f"Random layers of SmolLM2-135M, T = {result['page']}, medians of {result['rounds']} "
        f"rounds. A canonical pass with all slots on page 20, over one on page 0:"
    )
    yield ""
    far = result["far_page_over_page_0"]
    cells = {
        f"`{backend}`": {group: f"{ratio:.2f}" for group, ratio in by_group.items()}
        for backend, by_group in far.items()
    }
    yield from _grid("backend", cells)
    yield ""
    decode = ", ".join(
        f"{ratios['layer']:.2f} ({name})"
        for name, ratios in result["decode_over_torch_native"].items()
    )
    yield f"A decode step's layer, `llm42_cpu` over `torch_native`, requests at tokens: {decode}."


def _sweep(result: dict[str, Any]) -> Iterator[str]:
    if result["costs_from"] is None:
        raise SystemExit(
            "sweep.json is of guessed costs: give research/sweep.py a file of measured ones"
        )
    yield from _head("Where the defaults come from", result["costs_from"])
    yield "Costs by the command above, simulated by the one below; the defaults are in bold."
    yield ""
    yield f"    {result['command']}"
    yield ""
    settings, default = result["settings"], result["default"]
    best = settings[0]["tokens_per_s"]
    yield "| place | T | G | wait | tokens/s over the best | recomputed |"
    yield "|---|---|---|---|---|---|"
    for place, row in enumerate(settings, 1):
        shape = [row["page"], row["group"], row["wait"]]
        if place <= SWEPT or shape == default:
            mark = "**" if shape == default else ""
            yield (
                f"| {mark}{place}{mark} | {row['page']} | {row['group']} | {row['wait']} | "
                f"{row['tokens_per_s'] / best:.3f} | {100 * row['recompute_rate']:.1f} % |"
            )


def _simulation(result: dict[str, Any]) -> Iterator[str]:
    runs = result["runs"]
    offline, online = runs["offline, all deterministic"], runs["online, half deterministic"]
    yield "## The policy against the paper's, simulated"
    yield ""
    yield f"    {result['command']}"
    yield ""
    yield (
        f"The real protocol and policy under costs that are guesses for an 8B model on one H100 "
        f"(`research/simulator.py`), no engine; {offline['workload']['requests']} requests a load, "
        f"{100 * offline['workload']['flip_rate']:g} % of the candidates flip. "
        f"`synchronous` is LLM-42's artifact as this project reads it. Prompts of "
        f"{offline['workload']['prompt_mean']} tokens and answers of "
        f"{offline['workload']['output_mean']} in the mean."
    )
    yield ""

    def first_token_s(report: dict[str, Any]) -> float:
        return report["deterministic"]["ttft_p99_s"]

    cells = {
        batch["system"]: {
            "tokens/s, all deterministic": f"{batch['output_tokens_per_s']:.0f}",
            "recomputed per output token": f"{100 * batch['recompute_per_output']:.1f} %",
            "half of it, Poisson: P99 to its first token": f"{first_token_s(half):.1f} s",
        }
        for batch, half in zip(offline["reports"], online["reports"], strict=True)
    }
    yield from _grid("system", cells)
    yield ""
    answers = runs["window x group"]["workload"]["output_mean"]
    yield (
        f"Window x group, answers of {answers} tokens in the mean: recomputed per output token, "
        f"and tokens/s. The flip rate is fitted to LLM-42's column: compare the shape."
    )
    yield ""
    reports = runs["window x group"]["reports"]
    cells = {
        sliding["system"].removeprefix("sliding "): {
            "LLM-42, measured": f"{100 * paper:.1f} %",
            "sliding windows": f"{100 * sliding['recompute_per_output']:.1f} %",
            "aligned pages": f"{100 * aligned['recompute_per_output']:.1f} %",
            "sliding, tokens/s": f"{sliding['output_tokens_per_s']:.0f}",
            "aligned, tokens/s": f"{aligned['output_tokens_per_s']:.0f}",
        }
        for aligned, sliding, paper in zip(
            reports[::2], reports[1::2], result["paper_recompute_per_output"], strict=True
        )
    }
    yield from _grid("window x group", cells)


SECTIONS = {
    "throughput": _throughput,
    "latency": _latency,
    "attention": _attention,
    "passes": _passes,
    "sweep": _sweep,
    "simulation": _simulation,
}


def summary(folder: Path = RESULTS) -> str:
    """Markdown for the README: throughput and latency."""
    throughput, latency = (
        json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("throughput", "latency")
    )
    lines = [*_throughput(throughput), "", *_latency(latency)]
    return "\n".join(line.replace("## ", "### ") for line in lines)


PAGES = {ROOT / "README.md": summary, ROOT / "docs" / "performance.md": figures}


def filled(page: str, text: str) -> str:
    """The page with this text in the place for it."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, "the page has no place for the figures"
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


if __name__ == "__main__":
    for path, render in PAGES.items():
        page = path.read_text(encoding="utf-8")
        path.write_text(filled(page, render()), encoding="utf-8")
