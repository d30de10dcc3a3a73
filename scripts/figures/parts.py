"""What sections have in common: commands, hardware, load, tables."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

Result = dict[str, Any]  # one benchmark's JSON


def head(title: str, *results: Result) -> Iterator[str]:
    """Commands and hardware; of a single result its load as well."""
    yield f"## {title}"
    yield ""
    yield from (f"    {command(result)}" for result in results)
    yield ""
    sentences = list(dict.fromkeys(_hardware(result["hardware"]) for result in results))
    if len(results) == 1 and "rounds" in results[0].get("workload", {}):
        sentences.append(_load(results[0]["workload"]))
    yield " ".join(sentences)
    yield ""


def command(result: Result) -> str:
    """What measured it, without the file that it was told to write."""
    return re.sub(r" --(out|plot) \S+", "", result["command"])


def _hardware(hardware: dict[str, Any]) -> str:
    return (
        f"On {machine(hardware)}, {hardware['memory_gib']} GiB; torch {hardware['torch']}, "
        f"SGLang {hardware['sglang']}."
    )


def machine(hardware: dict[str, Any]) -> str:
    """Cores and GPUs, for a sentence."""
    cpu, simd = hardware["cpu"], hardware.get("simd")
    gpus = hardware.get("gpus", "none")  # older files do not say: there was none
    kind = f"{cpu}, {simd}" if simd else cpu
    return f"{hardware['cores']} cores ({kind}), {'no GPU' if gpus == 'none' else gpus}"


def _load(workload: dict[str, Any]) -> str:
    load = workload.get("loads") or f"{workload['in_flight']} in flight"
    load = load.replace("/s", " requests/s, Poisson arrivals")
    return (
        f"{model(workload)}; {load}; prompts of {workload['prompt_tokens']} tokens, "
        f"{workload['new_tokens']} new tokens; {rounds(workload)}."
    )


def rounds(workload: dict[str, Any]) -> str:
    """How many, and of how many requests."""
    number = workload["rounds"]
    return f"{number} round{'s' * (number > 1)} of {workload['requests']} requests"


def model(workload: dict[str, Any]) -> str:
    """Its name without the hash of its files."""
    return re.sub("-[0-9a-f]{8}$", "", workload["model"])


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table; columns in which no row has anything are left out."""
    kept = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    lines = [f"| {' | '.join(line[i] for i in kept)} |" for line in (columns, *rows)]
    yield lines[0]
    yield "|---" * len(kept) + "|"
    yield from lines[1:]


def percent(rate: float | None) -> str:
    """Empty where nothing was counted."""
    return "" if rate is None else f"{100 * rate:.1f} %"
