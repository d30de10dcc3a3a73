"""The report of `llm42 check`."""

from collections.abc import Iterator, Sequence
from typing import Any

from llm42_sglang.report.page import Bar, Section, agreement, render, side_by_side, timings
from llm42_sglang.repro.differences import changes, flat, is_hash
from llm42_sglang.repro.judge import CaseResult, CheckResult, CheckVerdict, place
from llm42_sglang.repro.wire import Answer

HEADLINES = {
    "good": "Every answer is the recorded one, bit by bit.",
    "bad": "Answers differ, and no change of the fingerprint explains it.",
    "unsure": "Some answers are missing, unverified, or changed with the fingerprint.",
}
MOODS = dict(zip(CheckVerdict, HEADLINES, strict=True))
MOST_BARS = 60
AGREEMENT = "How far the answers agree with the recorded ones"


def check_page(check: CheckResult, golden: str, url: str) -> str:
    """The HTML of a check of the golden file `golden` on the server at `url`."""
    passed = check.count(CheckVerdict.PASSED)
    facts = [
        ("cases", f"{passed} passed, {len(check.cases) - passed} not"),
        ("golden file", golden),
        ("server", url),
        ("fingerprint", check.change),
    ]
    by_condition: dict[str, list[Answer]] = {}
    for result in check.cases:
        for observation in result.observations:
            answers = by_condition.setdefault(place(observation.condition), [])
            answers.append(observation.answer)
    sections = [
        *_difference(check.cases),
        _case_table(check.cases),
        Section(AGREEMENT, bars=list(_bars(check.cases))[:MOST_BARS]),
        timings(by_condition),
        _fingerprints(check),
    ]
    mood = MOODS[check.verdict]
    title, verdict = f"check of {golden}", check.verdict.value
    return render(title, mood, verdict, HEADLINES[mood], facts, sections)


def _difference(cases: Sequence[CaseResult]) -> list[Section]:
    """The section about the first case whose verdict is about a difference, if there is one."""
    for result in cases:
        if (difference := result.difference) is not None:
            text = f"{result.reason}. Prompt: {result.case.question}"
            titles = (difference.source, place(difference.after.condition))
            sides = side_by_side(titles, *difference.sides)
            return [Section(f"The first difference: {result.case.id}", text, sides)]
    return []


def _case_table(cases: Sequence[CaseResult]) -> Section:
    rows = [(result.case.id, result.verdict.value, result.reason) for result in cases]
    marked = [i for i, result in enumerate(cases) if result.verdict is not CheckVerdict.PASSED]
    return Section("Cases", columns=("case", "verdict", "reason"), rows=rows, marked=marked)


def _bars(cases: Sequence[CaseResult]) -> Iterator[Bar]:
    """Yield a bar for each answer. Cases that differ are first, as only MOST_BARS are shown."""
    for result in sorted(cases, key=lambda result: result.difference is None):
        for observation in result.observations:
            label = f"{result.case.id} · {place(observation.condition)}"
            yield agreement(label, result.case.output, observation.answer.output)


def _fingerprints(check: CheckResult) -> Section:
    """The section with all facts, the changed ones first."""
    old = check.recorded.facts if check.recorded else {}
    new = check.observed.facts if check.observed else {}
    changed = {change.name for change in changes(old, new)} if old and new else set()
    before, after = dict(flat(old)), dict(flat(new))
    names = sorted(before | after, key=lambda name: (name not in changed, name))
    rows = [(name, _short(before.get(name)), _short(after.get(name))) for name in names]
    columns, marked = ("fact", "recorded", "now"), range(len(changed))
    return Section("Fingerprint", check.change, columns=columns, rows=rows, marked=marked)


def _short(fact: Any) -> str:
    """The text of a fact in a cell. Of a hash it is the beginning."""
    text = "-" if fact is None else str(fact)
    return f"{text[:12]}…" if is_hash(text) else text
