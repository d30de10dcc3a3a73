"""What a deterministic stream says does not depend on how its messages come in. No server.

Every parser of tool calls and of reasoning that SGLang has, and every endpoint that a deterministic
request can use; the classes are SGLang's own, from `TokenizerManager.generate_request` on.
"""

import asyncio
import gc
import json
import warnings
from collections.abc import Collection, Iterator
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sglang.srt.function_call.function_call_parser import FunctionCallParser
from sglang.srt.managers.io_struct import GenerateReqInput
from sglang.srt.managers.tokenizer_manager import ReqState
from sglang.srt.parser.beam import BEAM_RESPONSE_TEMPLATE
from sglang.srt.parser.reasoning_parser import ReasoningParser

from tests.engine.endpoints import USAGE, Endpoints, joined
from tests.engine.formats import CALLS, FORCED, REASONING, TOOL_CALLS, marks_in
from tests.engine.front import Play, Token, front, http_request

CUTS = 6  # random ones a parser, besides: all messages at once
MOST = 100  # messages
cuts = st.sets(st.integers(0, MOST), max_size=MOST // 4)
# In these, SGLang's own stream, token by token, says something else than its whole answer.
STOCK_DIFFERS = {
    ("mistral", 2): "its stream takes what follows the first call of a list for content",
    ("interns1", 2): "its stream forgets a second call",
    ("gigachat3", 2): "its format knows one call; the stream takes the rest for arguments",
}
FUNCTIONS = [
    {
        "name": name,
        "parameters": {
            "type": "object",
            "properties": {key: {"type": "string" if isinstance(value, str) else "integer"}},
            "required": [key],
        },
    }
    for name, key, value in CALLS
]
TOOLS = {  # by endpoint
    "chat": [{"type": "function", "function": function} for function in FUNCTIONS],
    "responses": [{"type": "function"} | function for function in FUNCTIONS],
}
EFFORT: dict[str, dict] = {
    "chat": {"reasoning_effort": "high"},
    "responses": {"reasoning": {"effort": "high"}},
}
OPTIONS: dict[str, dict] = {
    "chat": {"logprobs": True, "stream_options": USAGE},
    "responses": {},
}
PARSERS = [("tool_call_parser", name) for name in TOOL_CALLS]
PARSERS += [("reasoning_parser", name) for name in REASONING]


class Case(NamedTuple):
    """A request, and what the model says to it."""

    endpoint: str
    body: dict
    text: str
    calls: int = 0


def cases(kind: str, name: str) -> list[Case]:
    """One call, two calls behind content; or an answer behind reasoning."""
    return [
        case._replace(body=case.body | OPTIONS[case.endpoint])
        for endpoint in TOOLS
        for case in _cases(kind, name, endpoint)
    ]


def _cases(kind: str, name: str, endpoint: str) -> Iterator[Case]:
    if kind == "tool_call_parser":
        body, calls = {"tools": TOOLS[endpoint]}, TOOL_CALLS[name]
        yield Case(endpoint, body, calls.text(lead=False, count=1), 1)
        yield Case(endpoint, body, calls.text(lead=True, count=2), 2)
        if name == "step3":  # its forced calls are a JSON array, with SGLang's parser for that
            yield Case(endpoint, body | {"tool_choice": "required"}, FORCED.text(False, 2), 2)
    else:
        thinks: dict = {"chat_template_kwargs": {"thinking": True, "enable_thinking": True}}
        effort = EFFORT[endpoint] if name in ("mistral", "hunyuan") else {}
        yield Case(endpoint, thinks | effort, REASONING[name])


@pytest.fixture(scope="module")
def endpoints() -> Iterator[Endpoints]:
    with warnings.catch_warnings(), front() as (manager, templates):
        warnings.simplefilter("ignore")
        texts = [case.text for parser in PARSERS for case in cases(*parser)]
        manager.tokenizer.add_tokens(marks_in(texts))
        manager.model_config.vocab_size = len(manager.tokenizer)
        manager.tokenizer.is_byte_level = False  # known, or SGLang looks for it at every token
        manager.tokenizer.response_template = BEAM_RESPONSE_TEMPLATE
        yield Endpoints(manager, templates)


def tokens_of(endpoints: Endpoints, text: str) -> list[Token]:
    """With the text that each adds: none while a character is not complete."""
    tokenizer = endpoints.manager.tokenizer
    ids = tokenizer.encode(text, add_special_tokens=False)
    seen, tokens = "", []
    for end, id in enumerate(ids, start=1):
        now = tokenizer.decode(ids[:end]).rstrip("\ufffd")
        tokens.append(Token(id, now.removeprefix(seen)))
        seen = now
    assert seen == text
    return tokens


def use(endpoints: Endpoints, kind: str, name: str) -> None:
    none = {"tool_call_parser": None, "reasoning_parser": None}
    endpoints.set(**none | {kind: name, "incremental_streaming_output": False})


def said(endpoint: str, events: list[dict]) -> dict:
    """Whitespace around calls is left out: many parsers drop it in whole answers."""
    answer = joined(endpoint, events)
    return answer[0] | {"content": answer[0]["content"].strip(), "usage": answer["usage"]}


def test_every_parser_is_here():
    assert TOOL_CALLS.keys() == FunctionCallParser.ToolCallParserEnum.keys()
    assert REASONING.keys() == ReasoningParser.DetectorMap.keys()
    assert (len(TOOL_CALLS), len(REASONING)) == (44, 36)


@pytest.mark.parametrize(("kind", "name"), PARSERS)
def test_cuts_do_not_show_behind_a_parser(endpoints, kind, name):
    use(endpoints, kind, name)
    known = cases(kind, name)
    plays = [Play(tokens_of(endpoints, case.text)) for case in known]
    ordinary = [
        endpoints.stream(case.endpoint, case.body, play)
        for case, play in zip(known, plays, strict=True)
    ]

    def check(which: int, cuts: Collection[int]) -> None:
        play = plays[which]._replace(cuts=cuts, kept_apart=True)
        stream = endpoints.stream(known[which].endpoint, known[which].body, play)
        assert stream == ordinary[which]

    for which in range(len(known)):
        check(which, cuts=())  # all messages are in before the reader looks
    random = given(st.integers(0, len(known) - 1), cuts)(check)
    settings(max_examples=CUTS, deadline=None, derandomize=True)(random)()


@pytest.mark.parametrize(("kind", "name"), PARSERS)
def test_a_stream_says_what_the_whole_answer_says(endpoints, kind, name):
    use(endpoints, kind, name)
    for case in cases(kind, name):
        stream, whole = answers(endpoints, case, kept_apart=True)
        if (name, case.calls) in STOCK_DIFFERS:
            assert stream != whole
        else:
            assert stream == whole
            arguments = [json.loads(arguments) for _, arguments in whole["calls"].values()]
            assert arguments == [{key: value} for _, key, value in CALLS[: case.calls]]


@pytest.mark.parametrize(
    "name", ["qwen25", "hermes", "llama3", "deepseekv3", "deepseekv31", "glm45"]
)
def test_negative_control_messages_that_are_joined_show_the_cut(endpoints, name):
    """SGLang's way of reading them: content or arguments are lost."""
    use(endpoints, "tool_call_parser", name)
    for case in cases("tool_call_parser", name):
        if case.calls == 2:
            stream, whole = answers(endpoints, case, kept_apart=False)
            assert stream != whole


def answers(endpoints: Endpoints, case: Case, kept_apart: bool) -> tuple[dict, dict]:
    """What a stream says whose messages are all in before the reader looks; the whole answer."""
    endpoint, body, text, _ = case
    play = Play(tokens_of(endpoints, text), cuts=(), kept_apart=kept_apart)
    both = endpoints.stream(endpoint, body, play), endpoints.whole(endpoint, body, play)
    stream, whole = (said(endpoint, events) for events in both)
    return stream, whole


TEXT = "Sure.\nZwölf 🙂 und zwei.\n"
BODIES = {
    "chat": {
        "logprobs": True,
        "top_logprobs": 2,
        "stream_options": USAGE,
        "return_output_ids_in_sglext": True,
    },
    "completions": {"logprobs": 2, "stream_options": USAGE, "return_token_ids": True},
    "responses": {},
    "generate": {"return_logprob": True, "top_logprobs_num": 2, "token_ids_logprob": [5, 6]},
}


def body_of(endpoint: str, n: int) -> dict:
    body = BODIES[endpoint]
    match endpoint:
        case "responses":
            return body
        case "generate":
            return body | {"sampling_params": {"n": n}}
    return body | {"n": n}


def by_sample(events: list[dict]) -> list[dict]:
    """Samples of one request may come in any order; each has its own."""

    def sample(event: dict) -> int:
        choices = event.get("choices", [event])
        return choices[0].get("index", 0) if choices else len(events)  # those at the end

    return sorted(events, key=sample)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    endpoint=st.sampled_from([*BODIES]),
    incremental=st.booleans(),
    interval=st.sampled_from([1, 2, 5]),
    n=st.sampled_from([1, 3]),
    abort_at=st.sampled_from([None, 4]),
    cuts=cuts,
)
def test_cuts_do_not_show_at_an_endpoint(
    endpoints, endpoint, incremental, interval, n, abort_at, cuts
):
    endpoints.set(
        tool_call_parser=None, reasoning_parser=None, incremental_streaming_output=incremental
    )
    body = body_of(endpoint, n)
    ordinary = Play(tokens_of(endpoints, TEXT), interval=interval, abort_at=abort_at)
    events = endpoints.stream(endpoint, body, ordinary)
    cut = endpoints.stream(endpoint, body, ordinary._replace(cuts=cuts, kept_apart=True))
    assert by_sample(cut) == by_sample(events)
    if abort_at is None:
        whole = endpoints.whole(endpoint, body, ordinary)
        assert joined(endpoint, cut, incremental) == joined(endpoint, whole)


def test_a_client_that_leaves_takes_its_messages_along(endpoints):
    """At once, however rarely Python looks for cycles."""
    tokens = tokens_of(endpoints, TEXT)

    async def leave() -> None:
        manager = endpoints.manager
        manager.play, manager.samples = Play(tokens, cuts=(), kept_apart=True), 0
        request = GenerateReqInput(text="a", stream=True)
        answers = manager.generate_request(request, http_request())
        await anext(answers)
        assert states() == 1
        await answers.aclose()

    gc.collect()
    gc.disable()
    try:
        asyncio.run(leave())
        assert states() == 0
    finally:
        gc.enable()


def states() -> int:
    return sum(type(found) is ReqState for found in gc.get_objects())
