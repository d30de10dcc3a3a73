"""A stream is read message by message, however many have come in. No server."""

import asyncio
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from sglang.srt.entrypoints.openai.protocol import Function, Tool
from sglang.srt.function_call.function_call_parser import FunctionCallParser
from sglang.srt.managers.tokenizer_manager import ReqState, TokenizerManager

from llm42_sglang.engine.stream import Messages, stream_one_by_one

PARTS = list('<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>')
TOOL = Tool(type="function", function=Function(name="f", parameters={"type": "object"}))
PARSERS = pytest.mark.parametrize("parser", ["qwen25", "hermes"])


def read(kept_apart: bool) -> list[dict]:
    """What SGLang's own reader gives when all messages are in before it looks."""
    obj = SimpleNamespace(stream=True, rid="id")
    state = ReqState([], False, asyncio.Event(), obj, MagicMock())
    if kept_apart:
        state.out_list = Messages(state)
    for i, part in enumerate(PARTS):
        state.append_text(part)
        state.output_ids.append(i)
        state.output_token_logprobs.append((0.0, i, None))
        meta = {"finish_reason": None, "output_token_logprobs": state.output_token_logprobs}
        meta["output_token_logprobs_length"] = i + 1
        out = {"text": None, "output_ids": state.output_ids, "meta_info": meta}
        state.out_list.append(out)
    state.finished = True
    state.event.set()
    manager = MagicMock(incremental_streaming_output=False)
    manager.request_metrics_exporter_manager.exporter_enabled.return_value = False

    async def collect() -> list[dict]:
        original = TokenizerManager._stream_one_response
        return [out async for out in stream_one_by_one(original, manager, obj=obj, state=state)]

    return asyncio.run(collect())


def arguments(outs: list[dict], name: str) -> str:
    """Those of the call that SGLang's parser finds in a stream."""
    parser, seen, calls = FunctionCallParser([TOOL], name), 0, []
    for out in outs:
        calls += parser.parse_stream_chunk(out["text"][seen:])[1]
        seen = len(out["text"])
    return "".join(call.parameters for call in calls)


def test_each_message_is_as_it_came_in():
    outs = read(kept_apart=True)
    assert [out["text"] for out in outs] == ["".join(PARTS[:n]) for n in range(1, len(PARTS) + 1)]
    lengths = list(range(1, len(PARTS) + 1))
    assert [len(out["output_ids"]) for out in outs] == lengths
    assert [len(out["meta_info"]["output_token_logprobs"]) for out in outs] == lengths


@PARSERS
def test_tool_calls_keep_their_arguments(parser):
    assert arguments(read(kept_apart=True), parser) == '{"x": 1}'


@PARSERS
def test_messages_that_are_joined_lose_arguments(parser):
    """Negative control: SGLang's way of reading."""
    assert arguments(read(kept_apart=False), parser) != '{"x": 1}'
