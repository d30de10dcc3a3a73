"""Servers that are broken under load, on purpose: two of `scripts/drill`, and its judge."""

import pytest

from tests.fire.broken import VARIABLE
from tests.fire.drill import Drill, Outcome, compared, judged, run
from tests.fire.drills import AUDITED, ENDS, FAILS, REFUSED, killed

PASS = {VARIABLE: "call engine/passes/canonical.py:CanonicalForward.run 3"}


@pytest.mark.server
@pytest.mark.parametrize(
    "drill",
    [
        Drill("an exception in a pass", FAILS, flags=AUDITED, env=PASS),
        Drill("kill -9: the scheduler", ENDS, during=killed(0)),
    ],
    ids=lambda drill: drill.what,
)
def test_no_answer_is_wrong_and_nobody_waits(recorded, servers, drill):
    servers.stop()
    outcome = run(drill, recorded.drilled, servers.folder)
    assert outcome.reached and outcome.counts["errors"]
    assert outcome.wrong == []


@pytest.mark.server("tiny")
def test_the_judge_notices_another_answer(recorded, url):
    """The control: the same answers, a little changed."""
    (alone,), *_ = recorded.drilled.answers
    assert compared(0, 200, [alone], [alone]) == ("right answers", "")
    for part, other in (("ids", [1]), ("text", "?"), ("verified", False), ("logprobs", [[0]])):
        assert compared(0, 200, [alone | {part: other}], [alone])[0] == "wrong", part
    assert compared(0, 503, [], [alone]) == ("errors", "")


def test_an_end_that_is_not_allowed_is_wrong():
    """The control of ends."""
    drill = Drill("a fault", ENDS)
    assert judged(drill, Outcome("ends")).wrong == []
    assert judged(drill, Outcome("hangs")).wrong
    gone = Drill("a symbol is missing", REFUSED, env={VARIABLE: "gone sglang.x"})
    assert judged(gone, Outcome("on")).wrong
