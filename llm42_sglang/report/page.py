"""What a report consists of, and its HTML. All text is escaped."""

import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from llm42_sglang.errors import printable
from llm42_sglang.repro.output import UNITS, Output, common_unit, first_difference
from llm42_sglang.repro.wire import Answer

BEFORE, AFTER = 24, 40  # tokens that are shown around a difference
CHARACTERS = 8  # that are shown in place of a token
COUNTERS = ("canonical_steps", "verify_passes", "rollbacks", "tokens_rolled_back")


class Bar(NamedTuple):
    """A bar that shows a share, with a label before it and a note after it."""

    label: str
    percent: float
    note: str
    two_parts: bool = False  # whether the rest has a colour too


class Side(NamedTuple):
    """One of two answers that stand side by side, cut around their first difference."""

    title: str
    unit: str
    cut_before: int  # tokens or characters before the pieces, which are not shown
    pieces: Sequence[tuple[str, str, int | None]]  # "same", "first" or "after"; text; token id
    cut_after: int


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, and what is below it in this order. All but the heading may be missing."""

    title: str
    text: str = ""
    sides: Sequence[Side] = ()
    bars: Sequence[Bar] = ()
    columns: Sequence[str] = ()  # headings of a table
    rows: Sequence[Sequence[Any]] = ()
    marked: Collection[int] = ()  # indices of highlighted rows


def render(
    title: str,
    mood: str,
    verdict: str,
    headline: str,
    facts: Iterable[tuple[str, Any]],
    sections: Iterable[Section],
) -> str:
    """The HTML document.

    `mood` is good, bad or unsure and gives the colour. `verdict` is a few words, and `headline` a
    sentence about it. Facts are names with values; they are below the headline.
    """
    import jinja2  # not needed by other commands, so it may not be installed

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
    """A bar that shows how far two outputs agree, in the finest unit that both have."""
    unit = common_unit((before, after))
    left, right = getattr(before, unit), getattr(after, unit)
    at, length = first_difference(left, right), max(len(left), len(right))
    if at is None:
        return Bar(label, 100, f"all {length} {UNITS[unit]}s agree")
    return Bar(label, 100 * at / length, f"{UNITS[unit]}s differ from {at} on", two_parts=True)


def side_by_side(titles: tuple[str, str], *outputs: Output) -> list[Side]:
    """Two outputs around their first difference. Empty if texts and tokens are the same."""
    for unit in dict.fromkeys((common_unit(outputs), "text")):
        left, right = (getattr(output, unit) for output in outputs)
        if (at := first_difference(left, right)) is not None:
            pairs = zip(titles, outputs, strict=True)
            return [_side(title, output, unit, at) for title, output in pairs]
    return []


def _side(title: str, output: Output, unit: str, at: int) -> Side:
    pieces = getattr(output, unit)
    scale = CHARACTERS if unit == "text" else 1
    start, end = max(0, at - BEFORE * scale), min(len(pieces), at + AFTER * scale)
    texts = list(map(str, pieces))
    if unit == "ids" and len(output.tokens or ()) == len(pieces):
        texts = output.tokens or texts
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
    """A table of answers, by name of the group: seconds, and sums of the receipts' counters."""
    columns = ("", "requests", "median s", "most s", "first token s")
    counters = ("canonical steps", "passes", "rollbacks", "tokens rolled back")
    rows: list[tuple[Any, ...]] = []
    for group, answers in groups.items():
        seconds = [answer.end_to_end_s for answer in answers]
        first = [a.first_token_s for a in answers if a.first_token_s is not None]
        receipts = any(answer.receipt for answer in answers)
        row = (
            len(answers),
            f"{statistics.median(seconds):.2f}",
            f"{max(seconds):.2f}",
            f"{statistics.median(first):.2f}" if first else "-",
            *(sum(a.counter(name) for a in answers) if receipts else "-" for name in COUNTERS),
        )
        rows.append((group, *row))
    return Section("Latency and rollbacks", columns=(*columns, *counters), rows=rows)
