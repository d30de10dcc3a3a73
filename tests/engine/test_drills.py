"""Servers that are broken under load, on purpose: two of `scripts/drill`, and its judge."""

import copy

import pytest

from tests.fire.broken import VARIABLE
from tests.fire.drill import Drill, Outcome, compared, judged, run
from tests.fire.drills import AUDITED, ENDS, FAILS, killed

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
    event = {"output_ids": alone["ids"], "text": alone["text"]}
    event["meta_info"] = {
        "finish_reason": alone["finish"],
        "llm42": {"verified": True},
        "output_token_logprobs": [[logprob] for logprob in alone["logprobs"]],
    }
    assert compared(0, 200, [event], [alone]) == ("right answers", "")
    for change in ({"output_ids": [1]}, {"text": "?"}):
        assert compared(0, 200, [event | change], [alone])[0] == "wrong"
    unverified = copy.deepcopy(event)
    unverified["meta_info"]["llm42"]["verified"] = False
    assert compared(0, 200, [unverified], [alone])[0] == "wrong"
    assert compared(0, 503, [], [alone]) == ("errors", "")


def test_an_end_that_is_not_allowed_is_wrong():
    """The control of ends."""
    drill = Drill("a fault", ENDS)
    assert judged(drill, Outcome("ends")).wrong == []
    assert judged(drill, Outcome("hangs")).wrong
