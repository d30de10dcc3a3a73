"""No text holds the parsers, or the event loop that they run in. No server."""

import signal
import threading
import time

import pytest
from sglang.srt.entrypoints.openai.protocol import Tool
from sglang.srt.function_call.function_call_parser import FunctionCallParser
from sglang.srt.parser.reasoning_parser import ReasoningParser

from llm42_sglang.engine.front import parsers
from llm42_sglang.engine.front.parsers import LIMIT_S, limit, parse_in_time
from llm42_sglang.frontend.options import Refused

TOOLS = [Tool(type="function", function={"name": "f", "parameters": {}})]
CALL = f"[f({', '.join(f'a{i}=1' for i in range(26))})]"
LONG = {  # by parser: minutes, were it let
    "glm45": "<tool_call>" * 40_000,
    "pythonic": CALL,
    "qwen3_coder": "<tool_call>" * 40_000,
}
METHODS = ("parse_non_stream", "parse_stream_chunk")


def limited(parser):
    limit(None, parser)
    return parser


def parse(name: str, text: str, method: str = METHODS[0]):
    return getattr(limited(FunctionCallParser(TOOLS, name)), method)(text)


@pytest.mark.parametrize(
    ("name", "method"), [*((name, METHODS[0]) for name in LONG), ("pythonic", METHODS[1])]
)
def test_a_text_that_takes_too_long_is_refused_in_time(name, method):
    before = signal.getsignal(signal.SIGALRM)
    began = time.thread_time()
    with pytest.raises(Refused, match="cannot be parsed"):
        parse(name, LONG[name], method)
    assert time.thread_time() - began < LIMIT_S + 0.5
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize(
    ("parser", "more"),
    [
        (FunctionCallParser(TOOLS, "pythonic"), "has_tool_call"),
        (ReasoningParser("qwen3"), "parse_non_stream_blocks"),
    ],
)
def test_all_that_a_parser_does_with_a_text_is_limited(parser, more):
    readers = {"parse_non_stream", "parse_stream_chunk", "parse_stream_end", more}
    assert {name for name in vars(limited(parser)) if name in dir(type(parser))} == readers


def test_negative_control_a_longer_limit_holds_longer(monkeypatch):
    monkeypatch.setattr(parsers, "LIMIT_S", 1.5)
    began = time.monotonic()
    with pytest.raises(Refused):
        parse("pythonic", LONG["pythonic"])
    assert time.monotonic() - began >= 1.5


def test_a_call_is_parsed_as_ever_in_any_thread():
    text = "[f(a=1, b=[2, 3])]"
    expected = FunctionCallParser(TOOLS, "pythonic").parse_non_stream(text)
    assert expected[1][0].name == "f"
    parsed = [parse("pythonic", text)]
    thread = threading.Thread(target=lambda: parsed.append(parse("pythonic", text)))
    thread.start()
    thread.join()
    assert parsed == [expected] * 2


def test_one_limit_holds_for_a_parser_that_calls_another():
    def outer() -> None:
        assert parse("pythonic", "[f()]")[1]
        while True:  # the inner one has not ended the limit
            pass

    with pytest.raises(Refused):
        parse_in_time(outer)
