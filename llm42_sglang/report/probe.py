"""The page of `llm42 probe`."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llm42_sglang.report.page import Bar, Section, agreement, render, side_by_side, timings
from llm42_sglang.repro.output import UNITS
from llm42_sglang.repro.probe import COLUMNS, Probed, row_of
from llm42_sglang.repro.wire import Answer

MOST_STRETCHES = 16


def probe_page(
    probed: Sequence[Probed], result: Mapping[str, Any], workload: Mapping[str, Any]
) -> str:
    """HTML, from the answers, their `probe.summary`, and how they were asked for."""
    diverged = result["prompts_that_diverged"]
    mood, verdict = "good", "NO DIFFERENCE SEEN"
    headline = f"{result['answers']} answers to {len(probed)} prompts, one each."
    if diverged:
        mood, verdict = "bad", "NOT DETERMINISTIC"
        headline = f"{diverged} of {len(probed)} prompts got more than one answer."
    bars = [
        agreement(f"{one.case.id} · {where}", one.answers[0].output, other.output)
        for one in probed
        for where, other in _others(one)
    ]
    groups = {
        "alone": [answer for one in probed for answer in one.alone],
        "in load": [answer for one in probed for answer in one.loaded],
    }
    sections = [
        *_difference(probed),
        _table(probed),
        *_places(probed),
        Section("How far the answers agree with the first one", bars=bars),
        timings(groups),
    ]
    title = f"probe of {workload['url']}"
    return render(title, mood, verdict, headline, workload.items(), sections)


def _others(one: Probed) -> Iterator[tuple[str, Answer]]:
    """All answers but the first, and which one each is."""
    for number, answer in enumerate(one.answers[1:], start=2):
        yield f"{number}, {'alone' if number <= len(one.alone) else 'in load'}", answer


def _difference(probed: Sequence[Probed]) -> list[Section]:
    for one in probed:
        for where, other in _others(one):
            titles = ("answer 1, alone", f"answer {where}")
            if sides := side_by_side(titles, one.answers[0].output, other.output):
                title = f"The first difference: {one.case.id}"
                return [Section(title, one.case.question, sides)]
    return []


def _table(probed: Sequence[Probed]) -> Section:
    rows = [row_of(one) for one in probed]
    cells = [(*row, "-" if spread is None else f"{spread:.3g}") for *row, spread in rows]
    marked = [i for i, one in enumerate(probed) if one.unique(one.answers) > 1]
    return Section("Prompts", columns=COLUMNS, rows=cells, marked=marked)


def _places(probed: Sequence[Probed]) -> Iterator[Section]:
    """How many answers leave the first one where: a bar for each stretch of tokens."""
    places = [at for one in probed for at in one.diverged_at]
    if not places:
        return
    unit = min(UNITS[one.unit] for one in probed)
    width = max(places) // MOST_STRETCHES + 1
    counts = Counter(at // width for at in places)
    bars = []
    for i in range(max(counts) + 1):
        label = f"{unit}s {i * width} to {(i + 1) * width - 1}"
        bars.append(Bar(label, 100 * counts[i] / max(counts.values()), str(counts[i])))
    yield Section("Where answers leave the first one", bars=bars)
