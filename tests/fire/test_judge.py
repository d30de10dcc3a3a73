"""What the judge says of histories that are written by hand. No server."""

import pytest

from tests.fire.alone import outcome
from tests.fire.judge import judge
from tests.fire.trace import Event

ABORTED = {"type": "abort", "message": ""}
TOLD = '{"error": {"message": "Input length (633 tokens) exceeds 623"}}'


def answer(ids: list[int], *segments: tuple[str, int], finish="length", **more) -> dict:
    """One of /generate. segments: fingerprint and tokens of each."""
    receipt = {
        "verified": True,
        "fingerprint": segments[-1][0],
        "segments": [{"fingerprint": name, "tokens": tokens} for name, tokens in segments],
    }
    reason = {"type": finish} if isinstance(finish, str) else finish
    meta = {"finish_reason": reason, "llm42": receipt | more}
    return {"output_ids": ids, "text": str(ids), "meta_info": meta}


def verdict(*ends: dict, events=(), segments=(), **ask) -> tuple[str, dict]:
    """Of a history where a request gets [1, 2, 3, 4] under weights "a", [1, 2, 5, 6] under "b"."""
    alone = [
        outcome(200, "", [answer([1, 2, 3, 4], ("a", 4))]),
        outcome(200, "", [answer([1, 2, 5, 6], ("b", 4))]),
    ]
    lines = [{"what": "alone", "request": 0, "kind": "greedy", "answers": alone}]
    lines += [{"what": "alone", "request": 1, "kind": "long", "answers": [outcome(400, TOLD, [])]}]
    for end in ends:
        event = vars(Event(0.0, "ask", "x", **ask))
        end = end if "status" in end or "left" in end else outcome(200, "", [end])
        lines.append({"what": "ask", "event": event, "seconds": 1.0, **end})
    for event in events:
        more = {"status": 200, "success": True, "said": "", "seconds": 1.0}
        lines.append({"what": event.kind, "event": vars(event), **more})
    lines += segments
    lines.append({"what": "end", "flush": 200, "health": 200, "in_flight": 1})
    found = judge(lines)
    return found.verdict, found.counts


@pytest.mark.parametrize(
    ("end", "passed"),
    [
        (answer([1, 2, 3, 4], ("a", 4)), True),
        (answer([1, 2, 5, 6], ("b", 4)), True),
        (answer([1, 2, 5, 6], ("a", 4)), False),  # of the other weights
        (answer([1, 2, 3, 4], ("c", 4)), False),
        (answer([1, 2, 3], ("a", 3)), False),
        (answer([1, 2, 3, 4], ("a", 4), verified=False), False),
        (answer([1, 2, 3, 4], ("a", 4), finish="stop"), False),
        (answer([1, 2], ("a", 2), finish=ABORTED), False),  # by nobody
        ({"left": True, **outcome(200, "", [answer([1, 2], ("a", 2), finish=None)])}, True),
        ({"left": True, **outcome(200, "", [answer([1, 3], ("a", 2), finish=None)])}, False),
        ({"left": True, **outcome(200, "", [])}, True),
        (outcome(200, "", []), False),
        (outcome(500, "no", []), False),
    ],
)
def test_an_answer_is_right_under_its_fingerprint(end, passed):
    assert verdict(end)[0] == ("PASSED" if passed else "FAILED")


@pytest.mark.parametrize(
    ("second", "passed"), [([5, 6], True), ([5, 7], False), ("it looks back", True), (None, False)]
)
def test_segments_are_judged_one_by_one(second, passed):
    alone = outcome(200, "", [answer(second, ("b", 2))])["answer"] if second else [None]
    if isinstance(second, str):
        alone = [second]
    line = {"what": "segments", "rid": "x", "sample": 0, "ids": [1, 2, 5, 6], "alone": alone}
    found, counts = verdict(answer([1, 2, 5, 6], ("a", 2), ("b", 2)), segments=[line])
    assert found == ("PASSED" if passed else "FAILED")
    asked = isinstance(second, str)
    assert counts["segments that cannot be asked for alone"] == asked
    other_start, _ = verdict(answer([1, 3, 5, 6], ("a", 2), ("b", 2)), segments=[line])
    assert other_start == "FAILED"


@pytest.mark.parametrize(
    ("claim", "token", "weights", "passed"),
    [
        ("wrong", 3, "a", True),
        ("wrong", 2, "a", False),
        ("right", 2, "b", True),  # the claim is of the other weights
        ("right", 3, "a", False),
        ("", 3, "a", False),
    ],
)
def test_a_claim_is_refuted_where_it_differs(claim, token, weights, passed):
    refuted = answer([1, 2], (weights, 2), finish=ABORTED, refuted={"token": token})
    assert verdict(refuted, claim=claim)[0] == ("PASSED" if passed else "FAILED")


def test_who_leaves_may_know_the_second_sample_only():
    second = answer([1, 2], ("a", 2), finish=None) | {"index": 1}
    assert outcome(200, "", [second])["answer"][0]["sample"] == 1


def test_a_wrong_claim_that_is_confirmed_is_noticed():
    right = answer([1, 2, 3, 4], ("a", 4))
    assert verdict(right, claim="right")[0] == "PASSED"
    assert verdict(right, claim="wrong")[0] == "FAILED"


def test_who_is_refused_alone_is_refused_in_the_same_words():
    message = "Input length (633 tokens) exceeds 623"
    for end in (
        outcome(400, TOLD, []),
        {"status": 200, "said": f'{{"error": {{"code": 400, "message": "{message}"}}}}'},
        answer([], ("a", 0), finish={"type": "abort", "message": message}),
    ):
        found, counts = verdict(end, request=1)
        assert (found, counts["refused, as alone"]) == ("PASSED", 1)
    assert verdict(outcome(400, "another", []), request=1)[0] == "FAILED"
    assert verdict(outcome(400, TOLD, []))[0] == "FAILED"  # of a request that is served


def test_what_ends_requests_explains_their_end():
    cut = answer([1, 2], ("a", 2), finish=ABORTED)
    for event in (
        Event(0.0, "abort", "x"),
        Event(0.0, "pause", mode="abort"),
        Event(0.0, "update", mode="abort", weights="changed"),
    ):
        assert verdict(cut, events=[event])[0] == "PASSED"
    assert verdict(cut, events=[Event(0.0, "abort", "y")])[0] == "FAILED"
    full = answer([1, 2], ("a", 2), finish=ABORTED | {"message": "The request queue is full."})
    assert verdict(full, priority=1)[0] == "PASSED"
    assert verdict(full)[0] == "FAILED"
    assert verdict(events=[Event(0.0, "update", weights="none")])[0] == "FAILED"
