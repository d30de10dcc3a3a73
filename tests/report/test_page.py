"""Report pages: verdict first, self-contained, nothing of a model's output is markup."""

import re

import pytest

from llm42_sglang.report.bars import bar
from llm42_sglang.report.check import agreement, check_page
from llm42_sglang.report.histogram import histogram
from llm42_sglang.report.tokens import side_by_side
from llm42_sglang.repro.conditions import Observation
from llm42_sglang.repro.differences import Fingerprint
from llm42_sglang.repro.golden import Recorded
from llm42_sglang.repro.judge import Checked, judge
from llm42_sglang.repro.output import Output, Stamp
from llm42_sglang.repro.wire import Answer

EVIL = "<script>alert(1)</script>"
OLD = Fingerprint(digest="old", facts={"torch": "2.14.1", "weights": "ab" * 32, "flags": {"a": 1}})
NEW = Fingerprint(digest="new", facts={"torch": "2.15.0", "weights": "ab" * 32, "flags": {"a": 1}})
ELSEWHERE = re.compile(r"""(src|href|url|@import)\s*[=(]\s*["']?\s*(https?:|//|file:)""", re.I)


def output(ids, fingerprint="old", tokens=None) -> Output:
    stamp = Stamp(verified=True, fingerprint=fingerprint, output_digest="d")
    return Output(text="".join(map(chr, ids)), ids=list(ids), tokens=tokens, receipt=stamp)


def checked(got, fingerprint="old", tokens=None, case_id="sea") -> Checked:
    case = Recorded(id=case_id, prompt=EVIL, output=output((65, 66, 67), tokens=tokens))
    receipt = {"verify_passes": 7, "rollbacks": 4, "tokens_rolled_back": 9}
    answer = Answer(output(got, fingerprint, tokens), receipt=receipt, end_to_end_s=1.25)
    now = OLD if fingerprint == "old" else NEW
    judged = judge(case, [Observation(case_id, "load", answer)], OLD, now)
    return Checked((judged,), OLD, now)


def page_of(*arguments, **options) -> str:
    return check_page(checked(*arguments, **options), "golden.json", "http://localhost:1")


@pytest.mark.parametrize(
    ("got", "fingerprint", "verdict", "mood"),
    [
        ((65, 66, 67), "old", "PASSED", "good"),
        ((65, 68, 67), "old", "FAILED", "bad"),
        ((65, 68, 67), "new", "UNKNOWN", "unsure"),
    ],
)
def test_the_verdict_stands_first(got, fingerprint, verdict, mood):
    page = page_of(got, fingerprint)
    assert page.index(f"<h1>{verdict}</h1>") < page.index("<h2>")
    assert f'<header class="{mood}">' in page
    assert f"<title>llm42: {verdict}" in page


@pytest.mark.parametrize("fingerprint", ["old", "new"])
def test_a_page_needs_nothing_from_elsewhere(fingerprint):
    page = page_of((65, 68, 67), fingerprint)
    assert not ELSEWHERE.search(page)
    assert "<script" not in page and "<link" not in page and "<img" not in page
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_what_a_model_or_a_user_wrote_is_text():
    page = page_of((65, 68, 67), tokens=["a", EVIL, "c"], case_id=EVIL)
    assert EVIL not in page
    assert "&lt;script&gt;" in page


def test_the_first_difference_stands_side_by_side():
    page = page_of((65, 68, 67))
    assert '<span class="first" title="66">66</span>' in page
    assert '<span class="first" title="68">68</span>' in page
    assert "The first difference" not in page_of((65, 66, 67))


def test_changed_facts_and_figures_are_told():
    page = page_of((65, 68, 67), "new")
    assert "<td>torch</td><td>2.14.1</td><td>2.15.0</td>" in page
    assert "ab" * 32 not in page and "ababababab" in page  # a hash is cut
    assert re.search(
        r"<td>in load</td><td>1</td><td>1.25</td><td>1.25</td><td>-</td><td>7</td>", page
    )


def test_sides_are_cut_around_the_difference():
    left, right = output(range(100, 300)), output([*range(100, 200), 7, *range(201, 300)])
    sides = side_by_side(("a", "b"), left, right)
    assert (sides.unit, sides.at) == ("token", 100)
    assert (sides.left.cut_before, sides.left.cut_after) == (76, 60)
    assert [piece.text for piece in sides.right.pieces if piece.state == "first"] == ["7"]
    assert len(sides.left.pieces) == 24 + 40
    assert side_by_side(("a", "b"), left, left) is None


def test_texts_are_compared_where_tokens_are_not_told():
    sides = side_by_side(("a", "b"), Output(text="abc"), Output(text="abd"))
    assert (sides.unit, sides.at) == ("character", 2)
    shorter = side_by_side(("a", "b"), Output(text="abc"), Output(text="ab"))
    assert [piece.state for piece in shorter.right.pieces] == ["same", "same"]


def test_bars():
    assert bar("a", None, 4, "tokens").percent == 100
    assert bar("a", 1, 4, "tokens").percent == 25 and not bar("a", 1, 4, "tokens").whole
    assert bar("a", None, 0, "tokens").percent == 100
    assert agreement("a", Output(text="abc"), Output(text="abd")).agreeing == 2


def test_histogram_counts():
    drawing = histogram([0, 1, 1, 63], 64, "token & place")
    assert drawing.count('class="bin"') == 2
    assert "3 from 0" in drawing and "1 from 60" in drawing
    assert "token &amp; place" in drawing
    assert histogram([], 0, "x").count('class="bin"') == 0
    assert "1 from 0" in histogram([5], 1, "x")  # the last bin takes what lies past it
