"""Verdicts from recorded and observed outputs, and the facts in which two fingerprints differ."""

import pytest

from llm42_sglang.repro.conditions import Observation
from llm42_sglang.repro.differences import Fingerprint, changes, explain
from llm42_sglang.repro.golden import RecordedCase
from llm42_sglang.repro.judge import CheckResult, CheckVerdict, judge
from llm42_sglang.repro.output import Output, Stamp, mismatch
from llm42_sglang.repro.wire import Answer

OLD = Fingerprint(digest="old", facts={"torch": "2.14.1", "weights": "a" * 64})
NEW = Fingerprint(digest="new", facts={"torch": "2.15.0", "weights": "a" * 64})


def output(ids=(1, 2, 3), fingerprint="old", verified=True, digest="d", **more) -> Output:
    stamp = None
    if fingerprint:
        stamp = Stamp(verified=verified, fingerprint=fingerprint, output_digest=digest)
    fields = {"finish_reason": "length", **more}
    return Output(text=f"{ids}", ids=list(ids), receipt=stamp, **fields)


def judged(*observed: Output, now=OLD):
    case = RecordedCase(id="a", prompt="x", output=output())
    names = ("alone", "load", "warm")
    answers = zip(names, map(Answer, observed), strict=False)
    return judge(case, [Observation("a", *answer) for answer in answers], OLD, now)


PASSED, FAILED, UNKNOWN = CheckVerdict
NEW_BITS = output((1, 9), "new")
REASON = "in load, finish reason: recorded 'length', got 'stop'"
PROMPT = "in load, the prompt's tokens: recorded d, got e"
CHANGES = ["a is gone: 1", "b.c 1e-05 -> 0.5", "e is new: y"]


@pytest.mark.parametrize(
    ("observed", "now", "verdict", "message"),
    [
        ([output(), output((1, 2))], OLD, FAILED, "in load, token 2: recorded 3, got its end"),
        ([output(), output(finish_reason="stop")], OLD, FAILED, REASON),
        ([output(), output(digest="e")], OLD, FAILED, PROMPT),
        ([output(fingerprint="new")], NEW, PASSED, "though under another fingerprint"),
        ([NEW_BITS] * 2, NEW, UNKNOWN, "changed with the fingerprint (torch 2.14.1 -> 2.15.0)"),
        ([output(), output(fingerprint=None)], OLD, UNKNOWN, "carry no receipt"),
        ([output(), output(verified=False)], OLD, UNKNOWN, "not every answer is verified"),
        # A new fingerprint excuses no contradiction of its own.
        ([NEW_BITS, output((1, 8), "new")], NEW, FAILED, "in load, token 1: alone gave 9, got 8"),
    ],
)
def test_the_verdict_its_reason_and_the_difference_it_is_about(observed, now, verdict, message):
    result = judged(*observed, now=now)
    assert result.verdict is verdict and message in result.reason
    assert result.consistent is (verdict is not FAILED)
    if verdict is FAILED:
        assert result.difference.before == observed[0]
        assert result.difference.after.answer.output == observed[-1]


def test_what_only_one_side_tells_is_not_compared():
    text_only, full = Output(text="same"), Output(text="same", ids=[1], logprobs="x")
    assert mismatch(full, text_only) is None
    assert mismatch(text_only, Output(text="sane"))[:2] == ("character", 2)
    left, right = Output(text="ab", tokens=["a", "b"]), Output(text="ab", tokens=["ab"])
    assert mismatch(left, right)[:2] == ("token", 0)


def test_the_whole_is_as_bad_as_its_worst_case():
    passed, failed, unknown = map(judged, (output(), output((9,)), output(verified=False)))
    assert CheckResult((passed,), OLD, OLD).verdict is PASSED
    assert CheckResult((passed, unknown), OLD, OLD).verdict is UNKNOWN
    assert CheckResult((unknown, failed, passed), OLD, NEW).verdict is FAILED


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"a": 1, "b": {"c": 1e-05, "d": "x"}}, {"b": {"c": 0.5, "d": "x"}, "e": "y"}, CHANGES),
        ({"a": "a" * 64, "b": {}}, {"a": "b" * 64, "b": {}}, ["a changed"]),
        ({"a": [1]}, {"a": [2]}, ["a [1] -> [2]"]),
        ({"a": None}, {"a": "None"}, ["a None -> None"]),
        ({"a": "x" * 500}, {"a": "y"}, [f"a {'x' * 60}… -> y"]),
    ],
)
def test_every_fact_that_changed_is_named(before, after, message):
    assert list(map(str, changes(before, after))) == message


def test_nothing_else_is():
    assert explain(OLD, OLD) == "the same"
    assert explain(None, NEW) == "nothing was recorded"
    assert explain(OLD, None) == "the endpoint has no fingerprint"
