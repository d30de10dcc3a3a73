"""Where fingerprint and receipt stand in OpenAI bodies, on bodies as SGLang writes them."""

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
RECEIPTS = {0: {"verified": True}, 1: {"verified": True, "rollbacks": 1}}


class Body(BaseModel):
    """Like SGLang's response classes: no extra attributes, and a serializer of its own."""

    id: str
    sglext: dict | None = None
    choices: list[dict] | None = None

    @model_serializer(mode="wrap")
    def _serialize(self, handler):
        return {name: value for name, value in handler(self).items() if value is not None}


def event(**payload) -> str:
    return f"data: {json.dumps(payload)}\n\n"


def payload(text: str) -> dict:
    return json.loads(text.partition("data: ")[2])


@pytest.mark.parametrize(
    ("body", "receipts", "stamp"),
    [
        (Body(id="a"), {0: RECEIPTS[0]}, RECEIPTS[0]),
        # Several come in the order of the choices; choice 1 was aborted.
        (
            Body(id="a", choices=[{}, {}, {}]),
            {2: RECEIPTS[1], 0: RECEIPTS[0]},
            [RECEIPTS[0], None, RECEIPTS[1]],
        ),
    ],
)
def test_a_body_keeps_its_own_serializer(body, receipts, stamp):
    stamped = stamped_body(body, Exchange(receipts=receipts), PRINT)
    assert isinstance(stamped, Body)
    expected = json.loads(body.model_dump_json()) | {"system_fingerprint": PRINT, "llm42": stamp}
    assert json.loads(stamped.model_dump_json()) == expected
    assert stamped_body(body, Exchange(deterministic=True), PRINT) is body  # without a receipt


@pytest.mark.parametrize(
    ("chunk", "receipt"),
    [
        ({"choices": [{"index": 1, "text": "a", "finish_reason": None}]}, None),
        ({"choices": [{"index": 1, "text": "b", "finish_reason": "stop"}]}, RECEIPTS[1]),
        ({"choices": [], "usage": {"completion_tokens": 3}}, None),
    ],
)
def test_a_chunk_has_a_receipt_when_it_ends_its_choice(chunk, receipt):
    stamped = payload(stamped_event(event(**chunk), Exchange(receipts=RECEIPTS), PRINT))
    receipts = {} if receipt is None else {"llm42": receipt}
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


def test_receipts_of_single_results_and_of_batches():
    exchange = Exchange()
    exchange.note({"index": 1, "meta_info": {"llm42": RECEIPTS[1]}})
    exchange.note({"meta_info": {}})  # not finished yet
    assert exchange.receipts == {1: RECEIPTS[1]}
    exchange.note([{"meta_info": {"llm42": RECEIPTS[0]}}, {"meta_info": {"llm42": RECEIPTS[1]}}])
    assert exchange.receipts == RECEIPTS


def test_only_fields_that_the_request_class_lacks_are_carried():
    body = {"seed": 1, "custom_params": {"a": 1}, "deterministic": True, "user": "x"}
    assert dropped_fields(body, known={"seed", "custom_params"}) == {"deterministic": True}
    assert dropped_fields(["no object"], known=()) == {}


def test_extras_join_what_is_there():
    params = {"temperature": 0, "custom_params": {"thinking_budget": 5}}
    carried = with_extras(params, {"deterministic": True, "seed": 7})
    assert carried == params | {
        "custom_params": {"thinking_budget": 5, "deterministic": True},
        "sampling_seed": 7,
    }
    assert with_extras(carried, {"deterministic": True, "seed": 7}) == carried
    assert with_extras({"custom_params": None}, {}) == {"custom_params": None}
    private = {"custom_params": {"__sglang_private": [2]}}
    joined = with_extras(private, {"custom_params": {"deterministic": True}})
    assert joined["custom_params"] == {"__sglang_private": [2], "deterministic": True}


@pytest.mark.parametrize(
    ("extras", "said"),
    [
        ({"deterministic": False, "custom_params": {"deterministic": True}}, "contradicts"),
        ({"seed": "7"}, "seed"),
        ({"seed": True}, "seed"),
        ({"custom_params": [1]}, "custom_params"),
    ],
)
def test_contradictions_and_malformed_extras_are_refused_by_name(extras, said):
    with pytest.raises(Refused, match=said):
        with_extras({}, extras)
