"""Stamps and dropped fields: the cases that test_openai.py cannot show on a real server."""

import json

import pytest
from pydantic import BaseModel, model_serializer

from llm42_sglang.frontend.openai_body import (
    Exchange,
    dropped_fields,
    stamped_body,
    stamped_event,
    with_extras,
)
from llm42_sglang.frontend.options import Refused

PRINT = "f" * 32
RECEIPTS = {0: {"verified": True}, 2: {"verified": True, "rollbacks": 1}}
ASKED = {"deterministic": True}


class Body(BaseModel):
    """Like SGLang's response classes: no extra attributes, and a serializer of its own."""

    sglext: dict | None = None
    choices: list[dict]

    @model_serializer(mode="wrap")
    def _serialize(self, handler):
        return {name: value for name, value in handler(self).items() if value is not None}


def test_a_body_keeps_its_own_serializer_and_tells_which_choice_was_aborted():
    stamped = stamped_body(Body(choices=[{}, {}, {}]), Exchange(receipts=RECEIPTS), PRINT)
    assert isinstance(stamped, Body)
    stamps = {"system_fingerprint": PRINT, "llm42": [RECEIPTS[0], None, RECEIPTS[2]]}
    assert json.loads(stamped.model_dump_json()) == {"choices": [{}, {}, {}]} | stamps
    body = Body(choices=[{}])
    assert stamped_body(body, Exchange(deterministic=True), PRINT) is body  # without a receipt


@pytest.mark.parametrize("status", ["in_progress", "incomplete", "failed"])
def test_a_response_has_a_receipt_however_it_ends_and_keeps_the_bits_of_floats(status):
    values = [-0.1, -1e-45, -3.4028234663852886e38, 0.1 + 0.2]
    response = {"status": status, "logprobs": values}
    head = f"event: response.{status}\n"
    text = f"{head}data: {json.dumps({'response': response})}\n\n"
    stamped = stamped_event(text, Exchange(receipts=RECEIPTS), PRINT)
    stamps = {"system_fingerprint": PRINT}
    if status != "in_progress":
        stamps["llm42"] = RECEIPTS[0]
    assert stamped.startswith(f"{head}data: ")
    assert json.loads(stamped.partition("data: ")[2]) == {"response": response | stamps}


def aborted(**reason) -> dict:
    """One of several results of a stream."""
    finish_reason = {"type": "abort", "status_code": 400, "message": "llm42: none left"} | reason
    return {"index": 1, "meta_info": {"finish_reason": finish_reason}}


def test_a_choice_that_ends_with_our_error_is_told_and_the_stream_goes_on():
    exchange, result = Exchange(receipts={0: RECEIPTS[0]}), aborted()
    exchange.note(result)
    assert "status_code" not in result["meta_info"]["finish_reason"]  # or SGLang ends the stream
    errors = [{"index": 1, "message": "llm42: none left", "code": 400}]
    body = stamped_body(Body(choices=[{}, {}]), exchange, PRINT)
    assert json.loads(body.model_dump_json())["errors"] == errors
    for index, told in ((0, None), (1, errors)):
        chunk = {"choices": [{"index": index, "finish_reason": "abort"}]}
        event = stamped_event(f"data: {json.dumps(chunk)}\n\n", exchange, PRINT)
        assert json.loads(event.removeprefix("data: ")).get("errors") == told


@pytest.mark.parametrize("reason", [{"type": "stop"}, {"message": "x"}, {"status_code": None}])
def test_other_ends_are_sglangs(reason):
    exchange = Exchange()
    exchange.note(aborted(**reason))
    alone = {"meta_info": aborted()["meta_info"]}
    exchange.note(alone)
    assert not exchange.errors and alone["meta_info"]["finish_reason"]["status_code"] == 400


@pytest.mark.parametrize("text", ["data: [DONE]\n\n", 'data: {"error":  {"message": "x"}}\n\n'])
def test_other_events_are_untouched(text):
    assert stamped_event(text, Exchange(receipts=RECEIPTS), PRINT) == text


def test_what_sglang_has_put_there_is_kept_and_a_contradiction_is_refused():
    assert dropped_fields(ASKED | {"seed": 1, "user": "x"}, known={"seed"}) == ASKED
    assert dropped_fields(["no object"], known=()) == {}
    private = {"__sglang_private": [2]}
    joined = with_extras({"custom_params": private}, {"custom_params": ASKED})
    assert joined == {"custom_params": private | ASKED}
    with pytest.raises(Refused, match="deterministic contradicts"):
        with_extras({}, {"deterministic": False, "custom_params": ASKED})
    with pytest.raises(Refused, match="seed"):
        with_extras({}, {"seed": True})
