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
    rows = [(*cells(one), f"`{one['flags']}`" if one["flags"] else "") for one in found]
    yield from table((*COLUMNS, "with"), rows)
