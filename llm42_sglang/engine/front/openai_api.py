"""Hooks on the OpenAI endpoints refuse before a stream starts, and add fingerprint and receipt.

There are few of them, each as narrow as it can be:
- `handle_request` and `create_responses` are where a request body and its answer meet;
- `TokenizerManager.generate_request` is what all handlers call. They pass the HTTP request along,
  so one `Exchange` in its state joins the two ends;
- `_generate_with_builtin_tools`, because /v1/responses opens a stream before it calls that, and a
  refusal must come first.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from fastapi import HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sglang.srt.managers.io_struct import GenerateReqInput

from llm42_sglang.engine.front.gatekeeper import Gatekeeper
from llm42_sglang.engine.front.native import fold_native_field
from llm42_sglang.engine.hooks import around
from llm42_sglang.frontend.openai_body import (
    Exchange,
    dropped_fields,
    stamped_body,
    stamped_event,
    with_extras,
)
from llm42_sglang.frontend.options import Refused
from llm42_sglang.frontend.places import refuse_misplaced

_STATE = "llm42_exchange"  # attribute of an HTTP request's state

_SERVING = "sglang.srt.entrypoints.openai"
_CHAT = f"{_SERVING}.serving_chat.OpenAIServingChat"
_COMPLETIONS = f"{_SERVING}.serving_completions.OpenAIServingCompletion"
_RESPONSES = f"{_SERVING}.serving_responses.OpenAIServingResponses"


class OpenAIHooks:
    """The hooks. The gatekeeper decides who may pass, and knows the fingerprint."""

    def __init__(self, gate: Gatekeeper):
        self.gate = gate

    @around(f"{_CHAT}.handle_request", "stamp answers")
    @around(f"{_COMPLETIONS}.handle_request", "stamp answers")
    @around(f"{_RESPONSES}.create_responses", "stamp answers")
    async def answer(self, original, serving, request: BaseModel, raw_request=None) -> Any:
        """Answer, with fingerprint and receipts."""
        if raw_request is None:
            return await original(serving, request, raw_request)
        exchange = Exchange(await _dropped(request, raw_request))
        setattr(raw_request.state, _STATE, exchange)
        result = await original(serving, request, raw_request)
        return self._stamped(result, exchange) if exchange.deterministic else result

    @around(
        "sglang.srt.managers.tokenizer_manager.TokenizerManager.generate_request",
        "check OpenAI requests and collect their receipts",
    )
    def generate(self, original, manager, obj, request=None) -> AsyncGenerator[Any, None]:
        """Check the request a last time, and collect its receipts."""
        self.gate.bounds.check(obj, request)
        exchange = _exchange(request)
        if exchange is None:  # not an OpenAI endpoint
            if isinstance(obj, GenerateReqInput):
                self._admit_native(obj, from_engine=request is None)
            return original(manager, obj, request)
        self._admit(obj, exchange)
        results = original(manager, obj, request)
        return _noted(results, exchange) if exchange.deterministic else results

    @around(
        f"{_RESPONSES}._generate_with_builtin_tools", "refuse before /v1/responses opens a stream"
    )
    def refuse_response(
        self, original, serving, request_id, prompt, obj, *args, raw_request=None, **kwargs
    ) -> AsyncGenerator[Any, None]:
        """Decide at the call, not at the first token. SGLang makes an error response of what is
        raised here."""
        exchange = _exchange(raw_request)
        if exchange is not None:
            self._admit(obj, exchange)
        return original(serving, request_id, prompt, obj, *args, raw_request=raw_request, **kwargs)

    def _admit(self, obj: Any, exchange: Exchange) -> None:
        """Put the fields that SGLang dropped in their places, and decide.

        Raises Refused, which SGLang's handlers answer with 400, or HTTPException with another
        status.
        """
        if not isinstance(obj, GenerateReqInput):
            return
        try:
            if isinstance(obj.sampling_params, dict):
                obj.sampling_params = with_extras(obj.sampling_params, exchange.extras)
            exchange.deterministic = self.gate.examine(obj)
        except Refused as error:
            if error.status_code == 400:
                raise
            raise HTTPException(error.status_code, str(error)) from None

    def _admit_native(self, obj: GenerateReqInput, from_engine: bool) -> None:
        """Do for `Engine` what `FieldGate` and `Gatekeeper.refuse_early` do over HTTP.

        Raises Refused, which is a ValueError.
        """
        if from_engine:
            refuse_misplaced(obj.sampling_params)
            self.gate.examine(obj)
        else:
            fold_native_field(obj)

    def _stamped(self, result: Any, exchange: Exchange) -> Any:
        """The answer with fingerprint and receipts. Error responses stay as they are."""
        if isinstance(result, BaseModel):
            return stamped_body(result, exchange, self.gate.fingerprint)
        if isinstance(result, StreamingResponse):
            events = cast(AsyncGenerator[str, None], result.body_iterator)
            result.body_iterator = self._stamped_events(events, exchange)
        elif isinstance(result, AsyncGenerator):
            return self._stamped_events(result, exchange)
        return result

    async def _stamped_events(self, events: AsyncGenerator[str, None], exchange: Exchange):
        async with aclosing(events):  # a client that leaves must end the request at once
            async for event in events:
                yield stamped_event(event, exchange, self.gate.fingerprint)


async def _dropped(request: BaseModel, raw_request: Any) -> dict[str, Any]:
    """The fields of the body that SGLang does not know. FastAPI has parsed the body already. A gRPC
    request has none."""
    read = getattr(raw_request, "json", None)
    return dropped_fields(await read(), type(request).model_fields) if read else {}


def _exchange(raw_request: Any) -> Exchange | None:
    return getattr(getattr(raw_request, "state", None), _STATE, None)


async def _noted(results: AsyncGenerator[Any, None], exchange: Exchange):
    async with aclosing(results):
        async for result in results:
            exchange.note(result)
            yield result
