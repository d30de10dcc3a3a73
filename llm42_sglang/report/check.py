"""The page of `llm42 check`."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from llm42_sglang.report.page import Bar, Mood, Page, Section, Table, render
from llm42_sglang.report.tokens import side_by_side
from llm42_sglang.repro.differences import changes, flat, is_hash
from llm42_sglang.repro.judge import Checked, Judged, Verdict, place
from llm42_sglang.repro.output import Output, first_difference
from llm42_sglang.repro.wire import Answer

MOODS: dict[Verdict, Mood] = {
    Verdict.PASSED: "good",
    Verdict.FAILED: "bad",
    Verdict.UNKNOWN: "unsure",
}
HEADLINES = {
    Verdict.PASSED: "Every answer is the recorded one, bit by bit.",
    Verdict.FAILED: "Answers differ though nothing that may change them has changed.",
    Verdict.UNKNOWN: "Nobody vouches for some answers, or the server is another one.",
}
MOST_BARS = 60


def check_page(checked: Checked, golden: str, url: str) -> str:
    """HTML."""
    verdict = checked.verdict
    passed = checked.count(Verdict.PASSED)
    facts = [
        ("cases", f"{passed} passed, {len(checked.cases) - passed} not"),
        ("golden file", golden),
        ("server", url),
        ("fingerprint", checked.change),
    ]
    sections = [
        *_difference(checked),
        Section("Cases", table=_case_table(checked.cases)),
        Section(
            "How far the answers agree with the recorded ones",
            bars=list(_bars(checked.cases))[:MOST_BARS],
        ),
        _fingerprints(checked),
        Section("Latency and rollbacks", table=timings(_by_condition(checked.cases))),
    ]
    return render(
        Page(
            f"check of {golden}", MOODS[verdict], verdict.value, HEADLINES[verdict], facts, sections
        )
    )


def timings(groups: Sequence[tuple[str, Sequence[Answer]]]) -> Table:
    """By name of the group: seconds, and what the receipts count."""
    columns = ("", "requests", "median s", "most s", "first token s", "passes", "rollbacks")
    return Table((*columns, "tokens rolled back"), [_timing(*group) for group in groups])


def _timing(name: str, answers: Sequence[Answer]) -> tuple[Any, ...]:
    seconds = [answer.end_to_end_s for answer in answers]
    first = [answer.first_token_s for answer in answers if answer.first_token_s is not None]
    counters = ("verify_passes", "rollbacks", "tokens_rolled_back")
    receipts = any(answer.receipt for answer in answers)
    return (
        name,
        len(answers),
        f"{statistics.median(seconds):.2f}",
        f"{max(seconds):.2f}",
        f"{statistics.median(first):.2f}" if first else "-",
        *(sum(a.counter(name) for a in answers) if receipts else "-" for name in counters),
    )


def _difference(checked: Checked) -> Iterator[Section]:
    """Of the first differing case; nothing where none differs."""
    for judged in checked.cases:
        if judged.mismatch is None or judged.against is None or judged.differing is None:
            continue
        title = f"The first difference: {judged.case.id}"
        before = "recorded" if judged.against is judged.case.output else "under another condition"
        titles = (before, place(judged.condition or ""))
        text = f"{judged.reason}. Prompt: {judged.case.question}"
        yield Section(title, text, sides=side_by_side(titles, judged.against, judged.differing))
        return


def _case_table(cases: Sequence[Judged]) -> Table:
    rows = [(one.case.id, one.verdict.value, one.reason) for one in cases]
    marked = frozenset(i for i, one in enumerate(cases) if one.verdict is not Verdict.PASSED)
    return Table(("case", "verdict", "reason"), rows, marked)


def _bars(cases: Sequence[Judged]) -> Iterator[Bar]:
    """Cases that differ first: there may be more than are shown."""
    for judged in sorted(cases, key=lambda one: one.mismatch is None):
        for one in judged.observations:
            label = f"{judged.case.id} · {place(one.condition)}"
            yield agreement(label, judged.case.output, one.answer.output)


def agreement(label: str, before: Output, after: Output) -> Bar:
    """A bar, in the finest unit that both outputs tell."""
    for unit in ("ids", "tokens", "text"):
        left, right = getattr(before, unit), getattr(after, unit)
        if left is not None and right is not None:
            name = "characters" if unit == "text" else "tokens"
            at, length = first_difference(left, right), max(len(left), len(right))
            if at is None:
                return Bar(label, 100, f"all {length} {name} agree", two_parts=False)
            return Bar(label, 100 * at / length, f"{name} part at {at}", two_parts=True)
    raise AssertionError("every output has a text")


def _fingerprints(checked: Checked) -> Section:
    """The changed facts, and all of them behind a fold."""
    old = checked.recorded.facts if checked.recorded else {}
    new = checked.observed.facts if checked.observed else {}
    before, after = dict(flat(old)), dict(flat(new))
    both = bool(old and new)
    differing = changes(old, new) if both else []
    table = Table(
        ("fact", "recorded", "now"),
        [(one.name, _short(one.before), _short(one.after)) for one in differing],
        frozenset(range(len(differing))),
    )
    every = [
        (name, _short(before.get(name)), _short(after.get(name))) for name in sorted(before | after)
    ]
    return Section(
        "Fingerprint",
        checked.change,
        table=table if differing else None,
        folded=Table(("fact", "recorded", "now"), every) if every else None,
        folded_title="All facts",
    )


def _short(fact: Any) -> str:
    """A fact in a cell; of a hash enough to tell it from another."""
    text = "-" if fact is None else str(fact)
    return f"{text[:12]}…" if is_hash(text) else text


def _by_condition(cases: Sequence[Judged]) -> list[tuple[str, list[Answer]]]:
    groups: dict[str, list[Answer]] = {}
    for judged in cases:
        for one in judged.observations:
            groups.setdefault(place(one.condition), []).append(one.answer)
    return list(groups.items())
