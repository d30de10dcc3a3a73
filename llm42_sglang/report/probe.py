"""The page of `llm42 probe`."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llm42_sglang.report.check import agreement, timings
from llm42_sglang.report.page import Bar, Page, Section, Table, render
from llm42_sglang.report.tokens import side_by_side
from llm42_sglang.repro.probe import COLUMNS, UNITS, Probed, row_of

MOST_STRETCHES = 16


def probe_page(
    probed: Sequence[Probed], result: Mapping[str, Any], workload: Mapping[str, Any]
) -> str:
    """HTML, from the answers, their `probe.summary`, and how they were asked for."""
    diverged = result["prompts_that_diverged"]
    answers = result["answers"]
    if diverged:
        verdict = "NOT DETERMINISTIC"
        headline = f"{diverged} of {len(probed)} prompts got more than one answer."
    else:
        verdict = "NO DIFFERENCE SEEN"
        headline = f"{answers} answers to {len(probed)} prompts, one each."
    sections = [
        *_difference(probed),
        Section("Prompts", table=_table(probed)),
        *_places(probed),
        Section("How far the answers agree with the first one", bars=list(_bars(probed))),
        Section(
            "Latency and rollbacks",
            table=timings(
                [
                    ("alone", [answer for one in probed for answer in one.alone]),
                    ("in load", [answer for one in probed for answer in one.loaded]),
                ]
            ),
        ),
    ]
    mood = "bad" if diverged else "good"
    facts = list(workload.items())
    return render(Page(f"probe of {workload['url']}", mood, verdict, headline, facts, sections))


def _difference(probed: Sequence[Probed]) -> Iterator[Section]:
    for one in probed:
        first, *others = one.answers
        for number, other in enumerate(others, start=2):
            titles = ("answer 1, alone", f"answer {number}, {_where(one, number)}")
            if sides := side_by_side(titles, first.output, other.output):
                yield Section(
                    f"The first difference: {one.case.id}", one.case.question, sides=sides
                )
                return


def _places(probed: Sequence[Probed]) -> Iterator[Section]:
    """How many answers leave the first one where: a bar for each stretch of tokens."""
    places = [at for one in probed for at in one.diverged_at if at is not None]
    if not places:
        return
    unit = f"{min(UNITS[one.unit] for one in probed)}s"
    width = max(places) // MOST_STRETCHES + 1
    counts = Counter(at // width for at in places)
    bars = [
        Bar(
            f"{unit} {i * width} to {(i + 1) * width - 1}",
            100 * counts[i] / max(counts.values()),
            str(counts[i]),
            two_parts=False,
        )
        for i in range(max(counts) + 1)
    ]
    yield Section("Where answers leave the first one", bars=bars)


def _table(probed: Sequence[Probed]) -> Table:
    rows = [row_of(one) for one in probed]
    cells = [(*row, "-" if spread is None else f"{spread:.3g}") for *row, spread in rows]
    marked = frozenset(i for i, one in enumerate(probed) if one.unique(one.answers) > 1)
    return Table(COLUMNS, cells, marked)


def _bars(probed: Sequence[Probed]) -> Iterator[Bar]:
    for one in probed:
        first, *others = one.answers
        for number, other in enumerate(others, start=2):
            label = f"{one.case.id} · {number}, {_where(one, number)}"
            yield agreement(label, first.output, other.output)


def _where(one: Probed, number: int) -> str:
    """Of an answer, counted from 1."""
    return "alone" if number <= len(one.alone) else "in load"
