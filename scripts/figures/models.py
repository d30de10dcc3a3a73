"""The table of docs/models.md."""

from collections.abc import Iterator

from llm42_sglang.cli.certify import COLUMNS, cells
from scripts.figures.parts import Result, machine, table


def models(result: Result) -> Iterator[str]:
    """What `research/models.py` found for each architecture."""
    found = result["models"].values()
    counts = {
        verdict: sum(one["verdict"] == verdict for one in found)
        for verdict in ("holds", "refused", "fails")
    }
    hardware = result["hardware"]
    yield (
        f"On {machine(hardware)}; torch {hardware['torch']}, SGLang {hardware['sglang']}. "
        f"Of {len(found)} architectures {counts['holds']} hold, {counts['refused']} are refused, "
        f"and {counts['fails']} fail."
    )
    yield ""
    yield from table((*COLUMNS, "with"), [_row(one) for one in found])


def _row(one: Result) -> tuple[str, ...]:
    """A line of the table. What the verdict does not say by itself is behind it."""
    architecture, verdict, *measured = cells(one)
    if one["cause"]:
        verdict += f" ({one['cause']})"
    flags = f"`{one['flags']}`" if one["flags"] else ""
    return (architecture, verdict, *measured, flags)
