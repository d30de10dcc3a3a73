"""The page of `llm42 check`."""

from collections.abc import Iterator, Sequence
from typing import Any

from llm42_sglang.report.page import Bar, Section, agreement, render, side_by_side, timings
from llm42_sglang.repro.differences import changes, flat, is_hash
from llm42_sglang.repro.judge import Checked, Judged, Verdict, place
from llm42_sglang.repro.wire import Answer

HEADLINES = {
    "good": "Every answer is the recorded one, bit by bit.",
    "bad": "Answers differ though nothing that may change them has changed.",
    "unsure": "Nobody vouches for some answers, some are missing, or the server is another one.",
}
MOODS = dict(zip(Verdict, HEADLINES, strict=True))
MOST_BARS = 60
AGREEMENT = "How far the answers agree with the recorded ones"


def check_page(checked: Checked, golden: str, url: str) -> str:
    """HTML."""
    passed = checked.count(Verdict.PASSED)
    facts = [
        ("cases", f"{passed} passed, {len(checked.cases) - passed} not"),
        ("golden file", golden),
        ("server", url),
        ("fingerprint", checked.change),
    ]
    by_condition: dict[str, list[Answer]] = {}
    for judged in checked.cases:
        for one in judged.observations:
            by_condition.setdefault(place(one.condition), []).append(one.answer)
    sections = [
        *_difference(checked.cases),
        _case_table(checked.cases),
        Section(AGREEMENT, bars=list(_bars(checked.cases))[:MOST_BARS]),
        timings(by_condition),
        _fingerprints(checked),
    ]
    mood = MOODS[checked.verdict]
    title, verdict = f"check of {golden}", checked.verdict.value
    return render(title, mood, verdict, HEADLINES[mood], facts, sections)


def _difference(cases: Sequence[Judged]) -> list[Section]:
    """Of the first differing case."""
    for judged in cases:
        if (found := judged.difference) is not None:
            text = f"{judged.reason}. Prompt: {judged.case.question}"
            titles = (found.source, place(found.after.condition))
            sides = side_by_side(titles, found.before, found.after.answer.output)
            return [Section(f"The first difference: {judged.case.id}", text, sides)]
    return []


def _case_table(cases: Sequence[Judged]) -> Section:
    rows = [(one.case.id, one.verdict.value, one.reason) for one in cases]
    marked = [i for i, one in enumerate(cases) if one.verdict is not Verdict.PASSED]
    return Section("Cases", columns=("case", "verdict", "reason"), rows=rows, marked=marked)


def _bars(cases: Sequence[Judged]) -> Iterator[Bar]:
    """Cases that differ first: there may be more than are shown."""
    for judged in sorted(cases, key=lambda one: one.difference is None):
        for one in judged.observations:
            label = f"{judged.case.id} · {place(one.condition)}"
            yield agreement(label, judged.case.output, one.answer.output)


def _fingerprints(checked: Checked) -> Section:
    """All facts, the changed ones first."""
    old, new = (one.facts if one else {} for one in (checked.recorded, checked.observed))
    changed = {one.name for one in changes(old, new)} if old and new else set()
    before, after = dict(flat(old)), dict(flat(new))
    names = sorted(before | after, key=lambda name: (name not in changed, name))
    rows = [(name, _short(before.get(name)), _short(after.get(name))) for name in names]
    columns, marked = ("fact", "recorded", "now"), range(len(changed))
    return Section("Fingerprint", checked.change, columns=columns, rows=rows, marked=marked)


def _short(fact: Any) -> str:
    """A fact in a cell; of a hash enough to tell it from another."""
    text = "-" if fact is None else str(fact)
    return f"{text[:12]}…" if is_hash(text) else text
