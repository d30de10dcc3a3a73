"""Stamps and dropped fields of OpenAI bodies; tests/engine/test_openai asks a real server."""

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


class Body(BaseModel):
    """Like SGLang's response classes: no extra attributes, and a serializer of its own."""

    sglext: dict | None = None
    choices: list[dict]

    @model_serializer(mode="wrap")
    def _serialize(self, handler):
        return {name: value for name, value in handler(self).items() if value is not None}


def event(**payload) -> str:
    return f"data: {json.dumps(payload)}\n\n"


def payload(text: str) -> dict:
    return json.loads(text.partition("data: ")[2])


def test_a_body_keeps_its_own_serializer_and_tells_which_choice_was_aborted():
    stamped = stamped_body(Body(choices=[{}, {}, {}]), Exchange(receipts=RECEIPTS), PRINT)
    assert isinstance(stamped, Body)
    stamps = {"system_fingerprint": PRINT, "llm42": [RECEIPTS[0], None, RECEIPTS[2]]}
    assert json.loads(stamped.model_dump_json()) == {"choices": [{}, {}, {}]} | stamps
    body = Body(choices=[{}])
    assert stamped_body(body, Exchange(deterministic=True), PRINT) is body  # without a receipt


@pytest.mark.parametrize(("reason", "receipts"), [(None, {}), ("stop", {"llm42": RECEIPTS[2]})])
def test_a_chunk_has_a_receipt_when_it_ends_its_choice(reason, receipts):
    exchange = Exchange()
    for index, receipt in RECEIPTS.items():
        exchange.note({"index": index, "meta_info": {"llm42": receipt}})
    chunk = {"choices": [{"index": 2, "text": "a", "finish_reason": reason}]}
    stamped = payload(stamped_event(event(**chunk), exchange, PRINT))
    assert stamped == chunk | {"system_fingerprint": PRINT} | receipts


@pytest.mark.parametrize("status", ["in_progress", "completed", "incomplete", "failed"])
def test_a_responses_event_is_stamped_inside(status):
    text = f"event: response.{status}\n" + event(response={"status": status})
    stamped = stamped_event(text, Exchange(receipts=RECEIPTS), PRINT)
    assert stamped.startswith(f"event: response.{status}\ndata: ")
    response = payload(stamped)["response"]
    assert response["system_fingerprint"] == PRINT
    assert response.get("llm42") == (None if status == "in_progress" else RECEIPTS[0])


@pytest.mark.parametrize(
    "text", ["data: [DONE]\n\n", "", event(error={"message": "x"}), event(delta="a", type="t")]
)
def test_other_events_are_untouched(text):
    assert stamped_event(text, Exchange(receipts=RECEIPTS), PRINT) == text


def test_floats_keep_their_bits():
    """Logprobs pass through JSON once more."""
    values = [-0.1, -1e-45, -3.4028234663852886e38, 0.1 + 0.2]
    choice = {"index": 0, "finish_reason": None, "logprobs": values}
    stamped = stamped_event(event(choices=[choice]), Exchange(), PRINT)
    assert payload(stamped)["choices"][0]["logprobs"] == values


def test_only_fields_that_the_request_class_lacks_are_carried():
    body = {"seed": 1, "custom_params": {"a": 1}, "deterministic": True, "user": "x"}
    assert dropped_fields(body, known={"seed", "custom_params"}) == {"deterministic": True}
    assert dropped_fields(["no object"], known=()) == {}


ASKED = {"deterministic": True}


@pytest.mark.parametrize(
    ("given", "extras", "custom_params"),
    [
        (None, {}, None),
        ({"budget": 5}, ASKED, {"budget": 5, **ASKED}),
        (ASKED, ASKED, ASKED),
        ({"__sglang_private": [2]}, {"custom_params": ASKED}, {"__sglang_private": [2], **ASKED}),
    ],
)
def test_extras_join_what_is_there(given, extras, custom_params):
    joined = with_extras({"temperature": 0, "custom_params": given}, extras | {"seed": 7})
    expected = {"temperature": 0, "custom_params": custom_params, "sampling_seed": 7}
    assert joined == expected


@pytest.mark.parametrize(
    ("extras", "said"),
    [
        ({"deterministic": False, "custom_params": ASKED}, "deterministic contradicts"),
        ({"seed": "7"}, "seed"),
        ({"seed": True}, "seed"),
        ({"custom_params": [1]}, "custom_params"),
    ],
)
def test_contradictions_and_malformed_extras_are_refused_by_name(extras, said):
    with pytest.raises(Refused, match=said):
        with_extras({}, extras)
