"""SGLang's endpoints on `front.Front`: what they stream, and what they answer at once.

An answer, whole or put together from its events, is its choices, by index, and the usage.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel
from sglang.srt.entrypoints.openai.protocol import (
    ChatCompletionRequest,
    CompletionRequest,
    ResponsesRequest,
)
from sglang.srt.entrypoints.openai.serving_chat import OpenAIServingChat
from sglang.srt.entrypoints.openai.serving_completions import OpenAIServingCompletion
from sglang.srt.entrypoints.openai.serving_responses import OpenAIServingResponses
from sglang.srt.managers.io_struct import GenerateReqInput
from sglang.srt.parser.template_manager import TemplateManager

from tests.engine.front import Front, Play, http_request

# Of a request or of a clock, not of what the model says.
_OWN = {"id", "item_id", "call_id", "created", "created_at", "completed_at"} | {
    "e2e_latency",
    "response_sent_to_client_ts",
}
USAGE = {"include_usage": True, "continuous_usage_stats": True}


class Endpoints:
    """By name: "chat", "completions", "responses", "generate"."""

    def __init__(self, manager: Front, templates: TemplateManager):
        self.manager = manager
        self._templates = templates
        self._model = {"model": manager.served_model_name}

    def set(self, **flags: Any) -> None:
        """Server flags, for requests from now on."""
        self.manager.record_config_updates("test", **flags)
        if "incremental_streaming_output" in flags:
            self.manager.incremental_streaming_output = flags["incremental_streaming_output"]
        arguments = self.manager, self._templates
        self._chat = OpenAIServingChat(*arguments)
        self._completions = OpenAIServingCompletion(*arguments)
        self._responses = OpenAIServingResponses(*arguments)

    def stream(self, endpoint: str, body: dict, play: Play) -> list[dict]:
        """Its events, without what is another one in every request."""
        events = asyncio.run(self._answer(endpoint, body | {"stream": True}, play))
        if events[-1] == "[DONE]":
            events.pop()
        return events

    def whole(self, endpoint: str, body: dict, play: Play) -> list[dict]:
        """The answer that is no stream, as the only event; natively, one a sample."""
        body = {name: value for name, value in body.items() if name != "stream_options"}
        return asyncio.run(self._answer(endpoint, body, play))

    async def _answer(self, endpoint: str, body: dict, play: Play) -> Any:
        self.manager.play, self.manager.samples = play, 0
        answer = await getattr(self, f"_ask_{endpoint}")(body)
        if isinstance(answer, Response) and not isinstance(answer, StreamingResponse):
            raise AssertionError(answer.body)
        if isinstance(answer, BaseModel):
            return [plain(answer.model_dump())]
        return [plain(event) async for event in getattr(answer, "body_iterator", answer)]

    async def _ask_chat(self, body: dict) -> Any:
        messages = [{"role": "user", "content": "a"}]
        request = ChatCompletionRequest(**self._model | {"messages": messages} | body)
        return await self._chat.handle_request(request, http_request())

    async def _ask_completions(self, body: dict) -> Any:
        request = CompletionRequest(**self._model | {"prompt": "a"} | body)
        return await self._completions.handle_request(request, http_request())

    async def _ask_responses(self, body: dict) -> Any:
        request = ResponsesRequest(**self._model | {"input": "a"} | body)
        return await self._responses.create_responses(request, http_request())

    async def _ask_generate(self, body: dict) -> AsyncIterator[Any]:
        """As http_server.serve_generate_request; here, each sample is an event in any case."""
        request = GenerateReqInput(**{"text": "a"} | body)
        answers = self.manager.generate_request(request, http_request())
        return answers if request.stream else _one_by_one(await anext(answers))


async def _one_by_one(answer: dict | list[dict]) -> AsyncIterator[dict]:
    samples = answer if isinstance(answer, list) else [answer]
    for index, sample in enumerate(samples):
        yield sample | ({"index": index} if len(samples) > 1 else {})


def plain(event: Any) -> Any:
    """As a client gets it at this moment, without what a request has of its own."""
    if not isinstance(event, str):
        return _without_own(json.loads(json.dumps(event)))
    data = event.partition("data: ")[2].strip()
    return data if data == "[DONE]" else _without_own(json.loads(data))


def _without_own(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_own(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_own(item) for key, item in value.items() if key not in _OWN}
    return value


def joined(endpoint: str, events: list[dict], incremental: bool = False) -> Any:
    """What the events of a stream say together, or that of a whole answer."""
    return _JOINED[endpoint](events, incremental)


def _joined_chat(events: list[dict], _incremental: bool) -> dict:
    choices: dict[int, dict] = {}
    for choice in (choice for event in events for choice in event["choices"]):
        said = choices.setdefault(
            choice["index"], {"content": "", "reasoning": "", "calls": {}, "logprobs": []}
        )
        new = choice.get("delta") or choice["message"]
        said["content"] += new.get("content") or ""
        said["reasoning"] += new.get("reasoning_content") or ""
        for place, call in enumerate(new.get("tool_calls") or []):
            index = place if "message" in choice else call["index"]
            name, arguments = said["calls"].get(index, ("", ""))
            function = call["function"]
            name += function.get("name") or ""
            said["calls"][index] = name, arguments + (function.get("arguments") or "")
        said["logprobs"] += (choice["logprobs"] or {}).get("content") or []
        said["finish_reason"] = choice["finish_reason"]
    ids = [event["sglext"]["output_ids"] for event in events if event.get("sglext")]
    return choices | {"usage": _usage(events), "ids": ids}


def _joined_completions(events: list[dict], _incremental: bool) -> dict:
    choices: dict[int, dict] = {}
    for choice in (choice for event in events for choice in event["choices"]):
        said = choices.setdefault(choice["index"], {"text": "", "logprobs": {}})
        said["text"] += choice["text"]
        for name, values in (choice["logprobs"] or {}).items():
            said["logprobs"][name] = said["logprobs"].get(name, []) + values
        said["finish_reason"] = choice["finish_reason"]
    return choices | {"usage": _usage(events)}


def _usage(events: list[dict]) -> dict:
    """Without what a stream leaves out: what is not known."""
    return {name: count for name, count in events[-1]["usage"].items() if count is not None}


def _joined_responses(events: list[dict], _incremental: bool) -> dict:
    """The last event repeats all of it; the deltas before must have said the same."""
    last = events[-1].get("response") or events[-1]
    deltas = [""] * len(last["output"])
    for event in events:
        if event.get("type", "").endswith(".delta"):
            deltas[event["output_index"]] += event["delta"]
    said: dict[str, Any] = {"content": "", "reasoning": "", "calls": {}}
    for item, delta in zip(last["output"], deltas, strict=True):
        kind = item["type"]
        text = item["arguments"] if kind == "function_call" else item["content"][0]["text"]
        assert len(events) == 1 or text == delta
        if kind == "function_call":
            said["calls"][len(said["calls"])] = item["name"], text
        else:
            said["content" if kind == "message" else "reasoning"] += text
    return {0: said | {"finish_reason": last["status"]}, "usage": last["usage"]}


def _joined_generate(events: list[dict], incremental: bool) -> dict:
    answers: dict[int, dict] = {}
    for event in events:
        index = event.get("index", 0)
        answers[index] = _behind(answers.get(index, {}), event) if incremental else event
    return answers


def _behind(before: dict, event: dict) -> dict:
    """`event`, with its text and its lists behind those that came before."""
    now = dict(event)
    if "text" in now:
        now["text"] = before.get("text", "") + now["text"]
    for name, value in event.items():
        if isinstance(value, list):
            now[name] = before.get(name, []) + value
        elif isinstance(value, dict):
            now[name] = _behind(before.get(name, {}), value)
    return now


_JOINED = {
    "chat": _joined_chat,
    "completions": _joined_completions,
    "responses": _joined_responses,
    "generate": _joined_generate,
}
