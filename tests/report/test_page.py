"""Report pages: verdict first, self-contained, nothing of a model's output is markup."""

import re

from llm42_sglang.report.check import check_page
from llm42_sglang.report.page import agreement, side_by_side
from llm42_sglang.report.probe import probe_page
from llm42_sglang.repro.conditions import Observation
from llm42_sglang.repro.differences import Fingerprint
from llm42_sglang.repro.golden import RecordedCase
from llm42_sglang.repro.judge import CheckResult, judge
from llm42_sglang.repro.output import Output, Stamp
from llm42_sglang.repro.probe import PromptAnswers, summary
from llm42_sglang.repro.suite import Case
from llm42_sglang.repro.wire import Answer

EVIL = "<script>alert(1)</script>"
OLD = Fingerprint(digest="old", facts={"torch": "2.14.1", "weights": "ab" * 32, "flags": {"a": 1}})
NEW = Fingerprint(digest="new", facts={"torch": "2.15.0", "weights": "ab" * 32, "flags": {"a": 1}})
ELSEWHERE = re.compile(r"""(src|href|url|@import)\s*[=(]\s*["']?\s*(https?:|//|file:)""", re.I)


def output(ids, fingerprint="old", tokens=None) -> Output:
    stamp = Stamp(verified=True, fingerprint=fingerprint, output_digest="d")
    return Output(text="".join(map(chr, ids)), ids=list(ids), tokens=tokens, receipt=stamp)


def test_the_verdict_stands_first_nothing_is_from_elsewhere_and_what_others_wrote_is_text():
    tokens = ["a", EVIL, "c"]
    recorded, got = output((65, 66, 67), "old", tokens), output((65, 68, 67), "new", tokens)
    receipt = {"canonical_steps": 5, "verify_passes": 7, "rollbacks": 4, "tokens_rolled_back": 9}
    answer = Answer(got, receipt=receipt, end_to_end_s=1.25)
    case = RecordedCase(id=EVIL, prompt=EVIL, output=recorded)
    result = judge(case, [Observation(EVIL, "load", answer)], OLD, NEW)
    page = check_page(CheckResult((result,), OLD, NEW), "golden.json", "http://localhost:1")
    assert page.index('<header class="unsure">') < page.index("<h1>UNKNOWN</h1>")
    assert page.index("<title>llm42: UNKNOWN") < page.index("<h1>") < page.index("<h2>")
    assert not ELSEWHERE.search(page)
    assert not any(tag in page for tag in ("<script", "<link", "<img"))
    assert "default-src 'none'" in page
    assert "color-scheme: light dark" in page
    assert 'name="viewport"' in page
    assert EVIL not in page
    for token in (66, 68):
        assert f'<span class="first" title="{token}">&lt;script&gt;alert' in page
    assert '<tr class="marked"><td>torch</td><td>2.14.1</td><td>2.15.0</td>' in page
    assert "<td>flags.a</td><td>1</td><td>1</td>" in page
    assert "ab" * 32 not in page and "ababababab" in page  # a hash is cut
    figures = (1, 1.25, 1.25, "-", 5, 7)
    assert "<td>in load</td>" + "".join(f"<td>{figure}</td>" for figure in figures) in page


def test_sides_are_cut_around_the_difference_and_bars_end_there():
    left, right = output(range(100, 300)), output([*range(100, 200), 7, *range(201, 300)])
    sides = side_by_side(("a", "b"), left, right)
    cuts = [(side.unit, side.cut_before, side.cut_after) for side in sides]
    assert cuts == [("token", 76, 60)] * 2
    assert [text for state, text, _ in sides[1].pieces if state == "first"] == ["7"]
    assert len(sides[0].pieces) == 24 + 40
    assert agreement("a", left, right)[1:3] == (50, "tokens differ from 100 on")
    assert side_by_side(("a", "b"), left, left) == []
    assert agreement("a", left, left)[1:3] == (100, "all 200 tokens agree")
    _, shorter = side_by_side(("a", "b"), Output(text="abc"), Output(text="ab"))
    assert shorter.unit == "character"
    assert [state for state, *_ in shorter.pieces] == ["same", "same"]
    assert agreement("a", Output(text=""), Output(text="")).percent == 100


def test_where_answers_part_is_counted_by_stretches():
    case = Case(id="a", prompt=EVIL)
    first, others = range(64), [[*range(at), 99, *range(at + 1, 64)] for at in (0, 1, 1, 63)]
    answers = [Answer(output(ids)) for ids in (first, *others)]
    prompts = [PromptAnswers(case, tuple(answers[:1]), tuple(answers[1:]))]
    page = probe_page(prompts, summary(prompts), {"url": "http://localhost:1"})
    notes = re.findall(r'"label">tokens (\d+) to (\d+)</span>.*?"quiet">(\d+)<', page)
    assert notes[0] == ("0", "3", "3") and notes[-1] == ("60", "63", "1") and len(notes) == 16
    assert "<h1>NOT DETERMINISTIC</h1>" in page and EVIL not in page
    equal = [PromptAnswers(case, (answers[0],), (answers[0],))]
    page = probe_page(equal, summary(equal), {"url": "http://localhost:1"})
    assert "<h1>NO DIFFERENCE SEEN</h1>" in page and "begin to differ" not in page
