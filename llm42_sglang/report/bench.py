"""The page of a benchmark: its tables, its plots, its hardware and workload."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llm42_sglang.report.page import Page, Section, Table, render

if TYPE_CHECKING:
    from markupsafe import Markup


def bench_page(
    title: str,
    hardware: Mapping[str, Any],
    workload: Mapping[str, Any],
    tables: Sequence[tuple[str, Table]],
    drawings: "Sequence[Markup]",
) -> str:
    """HTML. The first drawing stands first: a benchmark has no verdict."""
    plots = [
        Section(f"Plot {i}" if len(drawings) > 1 else "Plot", drawing=one)
        for i, one in enumerate(drawings, start=1)
    ]
    sections = [
        *(Section(name, table=table) for name, table in tables),
        *plots,
        Section("Hardware", table=_pairs(hardware)),
    ]
    facts = [(name, value) for name, value in workload.items() if value not in (None, "")]
    where = f"On {hardware.get('cpu')}, {hardware.get('cores')} cores."
    return render(Page(title, "plain", "MEASURED", where, facts, sections))


def _pairs(facts: Mapping[str, Any]) -> Table:
    return Table(("", ""), [(name, value) for name, value in facts.items() if value is not None])
