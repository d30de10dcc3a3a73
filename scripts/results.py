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
        f"On {hardware['cores']} cores of {hardware['cpu']}, {hardware['memory_gib']} GiB, no GPU; "
        f"torch {hardware['torch']}, SGLang {hardware['sglang']}.{_load(result.get('workload'))}"
    )
    yield ""


def _load(workload: dict[str, Any] | None) -> str:
    if workload is None:
        return ""
    load = workload.get("loads") or f"{workload['in_flight']} in flight"
    return (
        f" {load}, {workload['requests']} requests a round, prompts of {workload['prompt_tokens']} "
        f"tokens, {workload['new_tokens']} new tokens; rounds: {workload['rounds']}."
    )


def _throughput(result: dict[str, Any]) -> Iterator[str]:
    yield from _head("Throughput", result)
    yield "| deterministic | tokens/s over stock's | least and most of the rounds |"
    yield "|---|---|---|"
    for share, ratio in result["ratio_to_stock"].items():
        ratios = result["ratios_to_stock"][share]
        yield f"| {share} % | **{ratio:.3f}** | {min(ratios):.3f}, {max(ratios):.3f} |"
    yield ""
    yield (
        f"At {result['speedup_at_share']} % it is **{result['speedup_over_serial']:.2f}** times as "
        f"fast as one request at a time. Recomputed: {100 * result['recompute_rate']:.1f} % of the "
        f"candidates, {result['rollbacks']} rollbacks."
    )


def _beside(result: dict[str, Any]) -> Iterator[str]:
    yield from _head("Ordinary traffic beside companions", result)
    yield "| companions of ordinary traffic | its tokens/s | least and most of the rounds |"
    yield "|---|---|---|"
    for kind, ratio in result["ratio"].items():
        ratios = result["ratios"][kind]
        yield f"| {kind} | **{ratio:.3f}** | {min(ratios):.3f}, {max(ratios):.3f} |"


def _latency(result: dict[str, Any]) -> Iterator[str]:
    yield from _head("Latency", result)
    kinds = {
        "p99_ttft_ratio": "P99 time to first token, all requests",
        "p99_itl_ordinary_ratio": "P99 time per token, ordinary requests",
        "p99_gap_ordinary_ratio": "P99 time between two chunks, ordinary requests",
    }
    yield "| over stock's | load | deterministic | ratio |"
    yield "|---|---|---|---|"
    for key, text in kinds.items():
        for load, by_share in result[key].items():
            for share, ratio in by_share.items():
                if ratio is not None:
                    yield f"| {text} | {load} | {share} % | **{ratio:.2f}** |"


def _sweep(result: dict[str, Any]) -> Iterator[str]:
    yield from _head("Costs of passes and decode steps", result["costs_from"])
    yield "From them, simulated by the command below; the server's defaults are in bold."
    yield ""
    yield f"    {result['command']}"
    yield ""
    settings, default = result["settings"], result["default"]
    best = settings[0]["tokens_per_s"]
    yield "| place | T | G | wait | tokens/s over the best | recomputed | ordinary P99 gap, half |"
    yield "|---|---|---|---|---|---|---|"
    for place, row in enumerate(settings, 1):
        shape = [row["page"], row["group"], row["wait"]]
        if place <= SWEPT or shape == default:
            mark = "**" if shape == default else ""
            yield (
                f"| {mark}{place}{mark} | {row['page']} | {row['group']} | {row['wait']} | "
                f"{row['tokens_per_s'] / best:.3f} | {100 * row['recompute_rate']:.1f} % | "
                f"{1e3 * row['ordinary_gap_p99_s']:.0f} ms |"
            )


SECTIONS = {
    "throughput": _throughput,
    "beside": _beside,
    "latency": _latency,
    "sweep": _sweep,
}


def summary(folder: Path = RESULTS) -> str:
    """Markdown for the README: throughput, and the latencies that users ask for first."""
    result = json.loads((folder / "throughput.json").read_text(encoding="utf-8"))
    return "\n".join(_throughput(result)).replace("## Throughput\n\n", "")


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
