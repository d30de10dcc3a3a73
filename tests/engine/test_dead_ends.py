"""Errors of ours in a batch, and what OpenAI's endpoints answer with. No server."""

import asyncio
from types import SimpleNamespace

import pytest
from fastapi import HTTPException
from sglang.srt.managers.io_struct import GenerateReqInput

from llm42_sglang.engine.front import dead_ends
from llm42_sglang.engine.front.openai_api import OpenAIHooks
from llm42_sglang.frontend.openai_body import Exchange
from llm42_sglang.frontend.options import Refused


def result(status: int | None = None, message: str = "llm42: it has ended") -> dict:
    """An answer, or an error with this HTTP status."""
    failure = {"type": "abort", "message": message, "status_code": status}
    return {"meta_info": {"finish_reason": failure if status else {"type": "stop"}}}


def collected(*results: dict) -> list[dict]:
    """The results of a batch. Each is looked at while the batch is collected."""
    raised = []

    async def one(manager, out: dict, state, is_stream: bool) -> None:
        raised.append(is_stream)  # SGLang raises unless it streams

    async def original(manager, generators) -> list[dict]:
        for each in results:
            await dead_ends.keep_result(one, None, each, None, False)
        return [*results]

    answers = asyncio.run(dead_ends.collect(original, None, None))
    failed = [bool(dead_ends.failure_of(each)) for each in results]
    assert raised == failed, "of a batch, our errors stay results"
    return answers


def test_an_error_leaves_the_others_of_its_batch_and_knows_its_place():
    answers = collected(result(), result(503), result())
    reasons = [each["meta_info"]["finish_reason"] for each in answers]
    assert [reason.get("index") for reason in reasons] == [None, 1, None]


def test_sglangs_own_errors_are_left_to_sglang():
    (answer,) = collected(result(400, message="too long"))
    assert "index" not in answer["meta_info"]["finish_reason"]


def test_a_batch_of_errors_is_an_error():
    with pytest.raises(HTTPException) as error:
        collected(result(503), result(503))
    assert error.value.status_code == 503 and error.value.detail == "llm42: it has ended"
    with pytest.raises(ValueError, match="it has ended"):  # SGLang makes a 400 of it
        collected(result(400))


def test_an_error_outside_of_a_batch_is_raised_by_sglang():
    seen = []

    async def original(manager, out: dict, state, is_stream: bool) -> None:
        seen.append(is_stream)

    asyncio.run(dead_ends.keep_result(original, None, result(503), None, False))
    assert seen == [False]


@pytest.mark.parametrize(("status", "raised"), [(503, HTTPException), (400, Refused)])
def test_openai_endpoints_answer_with_the_status_of_a_refusal(status, raised):
    def refuse(obj):
        raise Refused("deterministic service is not available", status)

    hooks = OpenAIHooks(SimpleNamespace(examine=refuse))
    exchange = Exchange()
    with pytest.raises(raised) as error:
        hooks._admit(GenerateReqInput(text="a", sampling_params={}), exchange)
    assert error.value.status_code == status and not exchange.deterministic
