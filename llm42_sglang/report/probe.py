"""The report of `llm42 probe`."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llm42_sglang.report.page import Bar, Section, agreement, render, side_by_side, timings
from llm42_sglang.repro.output import UNITS
from llm42_sglang.repro.probe import COLUMNS, PromptAnswers, row_of
from llm42_sglang.repro.wire import Answer

MOST_RANGES = 16


def probe_page(
    prompts: Sequence[PromptAnswers], result: Mapping[str, Any], workload: Mapping[str, Any]
) -> str:
    """The HTML, from the answers, their `probe.summary`, and how they were asked for."""
    diverged = result["prompts_that_diverged"]
    mood, verdict = "good", "NO DIFFERENCE SEEN"
    headline = f"{result['answers']} answers to {len(prompts)} prompts, one each."
    if diverged:
        mood, verdict = "bad", "NOT DETERMINISTIC"
        headline = f"{diverged} of {len(prompts)} prompts got more than one answer."
    bars = [
        agreement(f"{prompt.case.id} · {label}", prompt.answers[0].output, answer.output)
        for prompt in prompts
        for label, answer in _later_answers(prompt)
    ]
    groups = {
        "alone": [answer for prompt in prompts for answer in prompt.alone],
        "in load": [answer for prompt in prompts for answer in prompt.loaded],
    }
    sections = [
        *_difference(prompts),
        _table(prompts),
        *_places(prompts),
        Section("How far the answers agree with the first one", bars=bars),
        timings(groups),
    ]
    title = f"probe of {workload['url']}"
    return render(title, mood, verdict, headline, workload.items(), sections)


def _later_answers(prompt: PromptAnswers) -> Iterator[tuple[str, Answer]]:
    """Yield all answers but the first, each with a label such as "2, alone"."""
    for number, answer in enumerate(prompt.answers[1:], start=2):
        yield f"{number}, {'alone' if number <= len(prompt.alone) else 'in load'}", answer


def _difference(prompts: Sequence[PromptAnswers]) -> list[Section]:
    for prompt in prompts:
        for label, answer in _later_answers(prompt):
            titles = ("answer 1, alone", f"answer {label}")
            if sides := side_by_side(titles, prompt.answers[0].output, answer.output):
                title = f"The first difference: {prompt.case.id}"
                return [Section(title, prompt.case.question, sides)]
    return []


def _table(prompts: Sequence[PromptAnswers]) -> Section:
    rows = map(row_of, prompts)
    cells = [(*row, "-" if spread is None else f"{spread:.3g}") for *row, spread in rows]
    marked = [i for i, prompt in enumerate(prompts) if prompt.unique(prompt.answers) > 1]
    return Section("Prompts", columns=COLUMNS, rows=cells, marked=marked)


def _places(prompts: Sequence[PromptAnswers]) -> Iterator[Section]:
    """Yield a section that counts where answers begin to differ: a bar for each range of tokens."""
    places = [at for prompt in prompts for at in prompt.diverged_at]
    if not places:
        return
    unit = min(UNITS[prompt.unit] for prompt in prompts)
    width = max(places) // MOST_RANGES + 1
    counts = Counter(at // width for at in places)
    bars = []
    for i in range(max(counts) + 1):
        label = f"{unit}s {i * width} to {(i + 1) * width - 1}"
        bars.append(Bar(label, 100 * counts[i] / max(counts.values()), str(counts[i])))
    yield Section("Where answers begin to differ", bars=bars)
