"""Verdicts from recorded and observed outputs alone."""

import pytest

from llm42_sglang.repro.conditions import Observation
from llm42_sglang.repro.differences import Fingerprint
from llm42_sglang.repro.golden import Recorded
from llm42_sglang.repro.judge import Checked, Verdict, judge
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


def judged(*observed: Output, recorded: Output | None = None, now=OLD):
    case = Recorded(id="a", prompt="x", output=recorded or output())
    names = ("alone", "load", "warm")
    seen = [Observation("a", *pair) for pair in zip(names, map(Answer, observed), strict=False)]
    return judge(case, seen, OLD, now)


def test_same_bits_and_verified_pass():
    one = judged(output(), output())
    assert one.verdict is Verdict.PASSED and one.consistent
    assert "2 conditions" in one.reason


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ids": (1, 9, 3)}, "in load, token 1: recorded 2, got 9"),
        ({"ids": (1, 2)}, "in load, token 2: recorded 3, got its end"),
        ({"finish_reason": "stop"}, "in load, finish reason: recorded 'length', got 'stop'"),
        ({"logprobs": "y"}, "in load, logprobs: recorded x, got y"),
        ({"digest": "e"}, "in load, the prompt's tokens: recorded d, got e"),
    ],
)
def test_other_bits_of_the_same_fingerprint_fail(changed, said):
    recorded = output(logprobs="x")
    late = output(**{"logprobs": "x", **changed})
    one = judged(recorded, late, recorded=recorded)
    assert one.verdict is Verdict.FAILED and not one.consistent
    assert said in one.reason
    difference = one.difference
    assert difference.source == "recorded" and difference.before == recorded
    assert difference.after.condition == "load" and difference.after.answer.output == late


def test_other_bits_of_another_fingerprint_are_unknown_and_say_why():
    one = judged(*[output((1, 9), "new")] * 2, now=NEW)
    assert one.verdict is Verdict.UNKNOWN and one.consistent
    assert "the answer changed with the fingerprint (torch 2.14.1 -> 2.15.0)" in one.reason


def test_a_new_fingerprint_excuses_no_contradiction_of_its_own():
    one = judged(output((1, 9), "new"), output((1, 8), "new"), now=NEW)
    assert one.verdict is Verdict.FAILED
    assert "in load, token 1: alone gave 9, got 8" in one.reason


def test_same_bits_of_another_fingerprint_pass_and_say_so():
    one = judged(output(fingerprint="new"), now=NEW)
    assert one.verdict is Verdict.PASSED and "another fingerprint" in one.reason


def test_without_receipts_nothing_passes_and_differences_fail():
    assert judged(output(fingerprint=None), now=None).verdict is Verdict.UNKNOWN
    assert judged(output((1, 9), None), now=None).verdict is Verdict.FAILED
    assert judged(output(), output(fingerprint=None)).verdict is Verdict.UNKNOWN


def test_what_the_server_does_not_verify_is_unknown():
    one = judged(output(), output(verified=False))
    assert one.verdict is Verdict.UNKNOWN and "not every answer is verified" in one.reason


def test_what_only_one_side_tells_is_not_compared():
    bare = Output(text="same")
    assert mismatch(Output(text="same", ids=[1], logprobs="x"), bare) is None
    found = mismatch(Output(text="same"), Output(text="sane"))
    assert (found.what, found.at) == ("character", 2)
    found = mismatch(Output(text="ab", tokens=["a", "b"]), Output(text="ab", tokens=["ab"]))
    assert (found.what, found.at) == ("token", 0)


def test_the_whole_is_as_bad_as_its_worst_case():
    passed, failed = judged(output()), judged(output((9,)))
    unknown = judged(output(verified=False))
    assert Checked((passed,), OLD, OLD).verdict is Verdict.PASSED
    assert Checked((passed, unknown), OLD, OLD).verdict is Verdict.UNKNOWN
    both = Checked((unknown, failed, passed), OLD, NEW)
    assert both.verdict is Verdict.FAILED
    assert both.change == "torch 2.14.1 -> 2.15.0"
    assert Checked((passed,), OLD, OLD).change == "the same"
