"""What a report page consists of, and its HTML. All text is escaped."""

import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from llm42_sglang.errors import printable
from llm42_sglang.repro.output import UNITS, Output, common_unit, first_difference
from llm42_sglang.repro.wire import Answer

BEFORE, AFTER = 24, 40  # tokens shown around a difference; characters are eight times as many
COUNTERS = ("canonical_steps", "verify_passes", "rollbacks", "tokens_rolled_back")


class Bar(NamedTuple):
    """A share between a label and a note."""

    label: str
    percent: float
    note: str
    two_parts: bool = False  # whether the rest has a colour of its own


class Side(NamedTuple):
    """One of two answers: what agrees before the first difference, and what comes after it."""

    title: str
    unit: str
    cut_before: int  # tokens or characters that are not shown
    pieces: Sequence[tuple[str, str, int | None]]  # same, first or after; text; token id
    cut_after: int


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it, in this order, as far as it is there."""

    title: str
    text: str = ""
    sides: Sequence[Side] = ()
    bars: Sequence[Bar] = ()
    columns: Sequence[str] = ()  # of a table; cells are shown as they are
    rows: Sequence[Sequence[Any]] = ()
    marked: Collection[int] = ()  # indices of rows that stand out


def render(
    title: str,
    mood: str,
    verdict: str,
    headline: str,
    facts: Iterable[tuple[str, Any]],
    sections: Iterable[Section],
) -> str:
    """The HTML document. mood: good, bad or unsure; verdict: some words; headline: one sentence;
    facts: below these."""
    import jinja2  # it is there when a page is drawn, not before

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("llm42_sglang.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    return environment.get_template("page.html.j2").render(
        title=title, mood=mood, verdict=verdict, headline=headline, facts=facts, sections=sections
    )


def agreement(label: str, before: Output, after: Output) -> Bar:
    """How far two outputs agree, in the finest unit that both tell."""
    unit = common_unit((before, after))
    left, right = getattr(before, unit), getattr(after, unit)
    at, length = first_difference(left, right), max(len(left), len(right))
    if at is None:
        return Bar(label, 100, f"all {length} {UNITS[unit]}s agree")
    return Bar(label, 100 * at / length, f"{UNITS[unit]}s part at {at}", two_parts=True)


def side_by_side(titles: tuple[str, str], *outputs: Output) -> list[Side]:
    """Empty where the texts and tokens are the same."""
    for unit in dict.fromkeys((common_unit(outputs), "text")):
        left, right = (getattr(output, unit) for output in outputs)
        if (at := first_difference(left, right)) is not None:
            pairs = zip(titles, outputs, strict=True)
            return [_side(title, output, unit, at) for title, output in pairs]
    return []


def _side(title: str, output: Output, unit: str, at: int) -> Side:
    pieces = getattr(output, unit)
    scale = 8 if unit == "text" else 1
    start, end = max(0, at - BEFORE * scale), min(len(pieces), at + AFTER * scale)
    told = output.tokens if unit == "ids" and len(output.tokens or ()) == len(pieces) else None
    texts = told or list(map(str, pieces))
    shown = [
        (
            "same" if i < at else "first" if i == at else "after",
            texts[i],
            pieces[i] if unit == "ids" else None,
        )
        for i in range(start, end)
    ]
    return Side(title, UNITS[unit], start, shown, len(pieces) - end)


def timings(groups: dict[str, list[Answer]]) -> Section:
    """By name of the group: seconds, and what the receipts count."""
    columns = ("", "requests", "median s", "most s", "first token s")
    counted = ("canonical steps", "passes", "rollbacks", "tokens rolled back")
    rows: list[tuple[Any, ...]] = []
    for name, answers in groups.items():
        seconds = [answer.end_to_end_s for answer in answers]
        first = [answer.first_token_s for answer in answers if answer.first_token_s is not None]
        receipts = any(answer.receipt for answer in answers)
        row = (
            len(answers),
            f"{statistics.median(seconds):.2f}",
            f"{max(seconds):.2f}",
            f"{statistics.median(first):.2f}" if first else "-",
            *(sum(a.counter(one) for a in answers) if receipts else "-" for one in COUNTERS),
        )
        rows.append((name, *row))
    return Section("Latency and rollbacks", columns=(*columns, *counted), rows=rows)
