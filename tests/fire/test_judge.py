"""What the judge says of histories that are written by hand. No server."""

import pytest

from tests.fire.alone import outcome
from tests.fire.judge import judge
from tests.fire.requests import TOO_LONG
from tests.fire.texts import PARTIAL, begins, consists
from tests.fire.trace import Event

ABORTED = {"type": "abort", "message": "Aborted"}
TOLD = '{"error": {"message": "Input length (633 tokens) exceeds 623"}}'


RIGHT, AT_ONCE, LATER = [1, 2, 3, 4], (0.0, 1.0), (1.1, 2.0)  # LATER: begin and end, in seconds


def answer(ids: list[int], *segments: tuple[str, int], finish="length", **more) -> dict:
    """One of /generate. segments: fingerprint and tokens of each. Ids are letters in its text."""
    receipt = {
        "verified": True,
        "fingerprint": segments[-1][0],
        "segments": [{"fingerprint": name, "tokens": tokens} for name, tokens in segments],
    }
    reason = {"type": finish} if isinstance(finish, str) else finish
    meta = {"finish_reason": reason, "llm42": receipt | more}
    return {"output_ids": ids, "text": text_of(ids), "meta_info": meta}


def text_of(ids: list[int]) -> str:
    return "".join(chr(96 + one) for one in ids)


def happened(event: Event, times=AT_ONCE, status=200, **more) -> dict:
    """A line of what is no request."""
    line = {"what": event.kind, "event": vars(event), "begin": times[0], "end": times[1]}
    return line | {"status": status, "success": True, "said": ""} | more


def asked(end: dict, times=AT_ONCE, rid="x", **ask) -> dict:
    """The line of a request. end: an answer, or what `outcome` makes of one."""
    end = end if "status" in end or "left" in end else outcome(200, "", [end])
    return happened(Event(0.0, "ask", rid, **ask), times) | {"said": ""} | end


def verdict(*ends: dict, more=(), alone=(), answered=True, **ask) -> tuple[str, dict]:
    """Of a history where a request gets [1, 2, 3, 4] under weights "a", [1, 2, 5, 6] under "b".

    Request 1 is too long, and 2 has two samples. more: other lines. answered: whether another
    request gets the right answer, so that something is known.
    """
    rights = [answer(RIGHT, ("a", 4)), answer([1, 2, 5, 6], ("b", 4))]
    both = [[outcome(200, "", [right])] for right in rights]
    pairs = [outcome(200, "", [right, right | {"index": 1}]) for right in rights]
    known = [
        ("greedy", both[0] + both[1]),
        (TOO_LONG, [outcome(400, TOLD, [])]),
        ("n", pairs),
        *alone,
    ]
    lines = [
        {"what": "alone", "request": number, "kind": kind, "answers": answers}
        for number, (kind, answers) in enumerate(known)
    ]
    lines += [asked(end, **ask) for end in ends]
    if answered:
        lines.append(asked(rights[0], rid="other"))
    lines += more
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
    alone: list = [second]
    if isinstance(second, list):
        alone = outcome(200, "", [answer(second, ("b", 2))])["answer"]
    line = {"what": "segments", "rid": "x", "sample": 0, "ids": [1, 2, 5, 6], "alone": alone}
    found, counts = verdict(answer([1, 2, 5, 6], ("a", 2), ("b", 2)), more=[line])
    assert found == ("PASSED" if passed else "FAILED")
    asked = isinstance(second, str)
    assert counts["segments that cannot be asked for alone"] == asked
    other_start, _ = verdict(answer([1, 3, 5, 6], ("a", 2), ("b", 2)), more=[line])
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


ENDS_ALL = [Event(0.0, "pause", mode="abort"), Event(0.0, "update", mode="abort", weights="b")]
BY_NAME = Event(0.0, "abort", "x")
CUT = answer([1, 2], ("a", 2), finish=ABORTED)
# While a grammar was compiled: told as an error.
TOLD_SO = outcome(400, '{"error":{"message":"Aborted by AbortReq."}}', [])


@pytest.mark.parametrize("end", [CUT, TOLD_SO], ids=["cut", "told"])
@pytest.mark.parametrize("event", [BY_NAME, *ENDS_ALL], ids=["abort", "pause", "update"])
def test_what_ends_a_request_at_its_time_explains_its_end(end, event):
    assert verdict(end, more=[happened(event)])[0] == "PASSED"
    assert verdict(end, more=[happened(event, LATER)])[0] == "FAILED"
    assert verdict(end, more=[happened(event)], times=LATER)[0] == "FAILED"
    assert verdict(end)[0] == "FAILED"


def test_an_abort_explains_the_end_of_its_name_in_its_words():
    assert verdict(CUT, more=[happened(Event(0.0, "abort", "y"))])[0] == "FAILED"
    pause = [happened(Event(0.0, "pause", mode="retract"))]
    assert verdict(CUT, more=pause)[0] == "FAILED"
    for other in (
        answer([1, 2], ("a", 2), finish=ABORTED | {"message": "out of memory"}),
        outcome(400, '{"error":{"message":"out of memory"}}', []),
        outcome(500, '{"error":{"message":"Aborted"}}', []),
        {"left": True, "status": 200, "said": '{"error": {"message": "out of memory"}}'},
    ):
        assert verdict(other, more=[happened(BY_NAME)])[0] == "FAILED"
    # Names of requests with several samples are not sent.
    both = outcome(200, "", [CUT, CUT | {"index": 1}])
    assert verdict(both, more=[happened(BY_NAME)], request=2)[0] == "FAILED"
    assert verdict(both, more=[happened(ENDS_ALL[0])], request=2)[0] == "PASSED"


def test_a_full_queue_turns_away_who_has_a_priority():
    full = answer([1, 2], ("a", 2), finish=ABORTED | {"message": "The request queue is full."})
    assert verdict(full, priority=1)[0] == "PASSED"
    assert verdict(full)[0] == "FAILED"


@pytest.mark.parametrize(
    ("line", "passed"),
    [
        (happened(Event(0.0, "update", weights="b")), True),
        (happened(Event(0.0, "update", weights="none")), False),
        (happened(Event(0.0, "update", weights="b"), status=500), False),
        (happened(Event(0.0, "pause", mode="retract"), status=500), False),
        (happened(BY_NAME), True),
        (happened(BY_NAME, status=400), False),
        (happened(BY_NAME, (0.0, 200.0)), False),
        (happened(Event(0.0, "flush")), True),
        (happened(Event(0.0, "flush"), status=400), True),  # a request is under way
        (happened(Event(0.0, "flush"), (99.0, 99.1), status=400), False),
        (happened(Event(0.0, "flush"), status=500), False),
    ],
)
def test_what_is_asked_of_the_server_is_done(line, passed):
    assert verdict(more=[line])[0] == ("PASSED" if passed else "FAILED")


def test_a_name_is_refused_only_while_it_is_under_way():
    twice = outcome(400, '{"error":{"message":"Duplicate request ID detected: x"}}', [])
    right = answer(RIGHT, ("a", 4))
    assert verdict(right, more=[asked(twice)])[0] == "PASSED"
    assert verdict(right, more=[asked(twice, LATER)])[0] == "FAILED"
    assert verdict(right, more=[asked(twice, rid="y")])[0] == "FAILED"
    assert verdict(twice, more=[asked(twice)])[0] == "FAILED"  # none of them was under way
    # Whose client has left goes on until the server notices.
    left = {"left": True, **outcome(200, "", [])}
    assert verdict(left, more=[asked(twice, LATER)])[0] == "PASSED"
    assert verdict(left, more=[asked(twice, (99.0, 99.1))])[0] == "FAILED"


def test_a_whole_answer_has_all_samples():
    right = answer(RIGHT, ("a", 4))
    both = outcome(200, "", [right, right | {"index": 1}])
    assert verdict(both, request=2)[0] == "PASSED"
    for deterministic in (True, False):
        for ends in ([right], [right | {"index": 1}]):
            one = outcome(200, "", ends)
            assert verdict(one, request=2, deterministic=deterministic)[0] == "FAILED"
    third = outcome(200, "", [right, right | {"index": 1}, right | {"index": 2}])
    assert verdict(third, request=2)[0] == "FAILED"
    left = {"left": True, **outcome(200, "", [answer([1], ("a", 1), finish=None)])}
    assert verdict(left, request=2)[0] == "PASSED"


def test_nothing_is_known_where_no_deterministic_answer_came():
    assert verdict(answer(RIGHT, ("a", 4)), answered=False)[0] == "PASSED"
    assert verdict(answered=False)[0] == "UNKNOWN"
    assert verdict(answer(RIGHT, ("a", 4)), answered=False, deterministic=False)[0] == "UNKNOWN"
    assert verdict(CUT, answered=False, more=[happened(BY_NAME)])[0] == "UNKNOWN"
    assert verdict(outcome(400, TOLD, []), answered=False, request=1)[0] == "UNKNOWN"


def test_a_history_without_times_is_unknown():
    line = happened(BY_NAME)
    del line["begin"]
    assert verdict(more=[line])[0] == "UNKNOWN"


@pytest.mark.parametrize(
    "end",
    [
        outcome(400, TOLD, []),
        outcome(500, "no", []),
        outcome(200, "", []),
        outcome(200, "", [CUT]),
        outcome(200, "", [answer([1], ("a", 1), verified=False)]),
    ],
)
def test_only_who_is_too_long_may_have_no_right_answer(end):
    assert verdict(alone=[("greedy", [end])])[0] == "FAILED"


@pytest.mark.parametrize(
    ("text", "passed"),
    [("ab", True), ("a", True), ("", True), (f"a{PARTIAL}", True), ("ac", False), ("b", False)],
)
def test_the_text_of_a_beginning_is_one(text, passed):
    expected = "PASSED" if passed else "FAILED"
    cut = CUT | {"text": text}
    assert verdict(cut, more=[happened(BY_NAME)])[0] == expected
    for segments in ([("a", 2)], [(None, 2)]):  # with a receipt, and without
        left = answer([1, 2], *segments, finish=None) | {"text": text}
        assert verdict({"left": True, **outcome(200, "", [left])})[0] == expected
    refuted = answer([1, 2], ("a", 2), finish=ABORTED, refuted={"token": 3}) | {"text": text}
    assert verdict(refuted, claim="wrong")[0] == expected


def test_a_stop_string_is_in_the_text_until_the_end():
    right = {"text": "go", "ids": [1, 2, 3], "finish": {"type": "stop", "matched": " the"}}
    assert begins({"text": "go t", "ids": [1, 2]}, right)
    assert not begins({"text": "go a", "ids": [1, 2]}, right)
    assert not begins({"text": "go there", "ids": [1, 2]}, right)
    assert begins({"text": "go there", "ids": [1, 2, 3]}, right)  # a refuted claim does not stop


def test_the_text_and_the_end_of_segments_are_theirs():
    stop = {"type": "stop", "matched": 6}
    last = answer([5, 6], ("b", 2), finish=stop)
    whole = answer([1, 2, 5, 6], ("a", 2), ("b", 2), finish=stop)
    line = {"what": "segments", "rid": "x", "sample": 0, "ids": [1, 2, 5, 6]}
    line["alone"] = outcome(200, "", [last])["answer"]
    assert verdict(whole, more=[line])[0] == "PASSED"
    for text in ("abef!", "abe", "ab", "bef", "abfe", "acef"):
        assert verdict(whole | {"text": text}, more=[line])[0] == "FAILED", text
    for finish in ("length", {"type": "stop", "matched": 7}):
        other = answer([1, 2, 5, 6], ("a", 2), ("b", 2), finish=finish)
        assert verdict(other, more=[line])[0] == "FAILED"
    longer = line | {
        "alone": outcome(200, "", [answer([5, 6, 7], ("b", 3), finish=stop)])["answer"]
    }
    assert verdict(whole, more=[longer])[0] == "FAILED"


def test_a_length_counts_from_the_beginning():
    last = answer([5, 6], ("b", 2), finish={"type": "length", "length": 2})
    line = {"what": "segments", "rid": "x", "sample": 0, "ids": [1, 2, 5, 6]}
    line["alone"] = outcome(200, "", [last])["answer"]
    for length, passed in ((4, True), (2, False)):
        finish = {"type": "length", "length": length}
        whole = answer([1, 2, 5, 6], ("a", 2), ("b", 2), finish=finish)
        assert verdict(whole, more=[line])[0] == ("PASSED" if passed else "FAILED")


def test_segments_may_share_a_character():
    first, last = ({"text": text, "finish": None} for text in ("ab-", "cd"))
    assert consists("abécd", [first, last], whole=True)
    assert not consists("abéécd", [first, last], whole=True)
    assert not consists("abxcd", [first, last], whole=True)
    assert consists("abcd", [first, last | {"text": "écd"}], whole=True)
    assert not consists("xcd", [first, last, last], whole=False)
    assert consists("ab?cd", [first, None, last], whole=True)
    assert consists(f"abc{PARTIAL}", [first, last], whole=False)
    assert not consists("abc", [first, last], whole=True)
