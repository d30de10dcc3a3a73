"""Long texts hold nobody. No server."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from llm42_sglang.engine.front.texts import LONG, convert_aside, tokenize_aside


@pytest.mark.parametrize("texts", ["x" * LONG, ["x" * (LONG // 2)] * 2, [["x" * LONG, "y"]]])
def test_the_event_loop_turns_while_a_long_text_becomes_tokens(texts):
    assert turned_during(texts, "x" * 9) == [True, False]  # a short one is the negative control


def turned_during(*texts: object) -> list[bool]:
    """Whether others on the event loop got their turn, text by text."""
    turned = threading.Event()
    manager = SimpleNamespace(async_dynamic_batch_tokenizer=None)

    async def original(manager, texts) -> bool:
        return turned.wait(0.5)

    async def other() -> None:
        turned.set()

    async def both(texts: object) -> bool:
        turned.clear()
        told, _ = await asyncio.gather(tokenize_aside(original, manager, texts), other())
        return told

    return [asyncio.run(both(each)) for each in texts]


CONTEXT = 10


class Tokenizer:
    """Its longest token has three characters."""

    def get_vocab(self) -> dict[str, int]:
        return {"abc": 0, "d": 1}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"prompt": "x" * 30}, ""),
        ({"prompt": "x" * 31}, "prompt: at most 30 characters"),
        ({"prompt": ["x", "x" * 31]}, "prompt: at most 30 characters"),
        ({"prompt": ["x" * 30] * 9}, ""),
        ({"prompt": None}, ""),
        ({"tokens": [1] * 10}, ""),
        ({"tokens": [1] * 11}, "tokens: at most 10 of one prompt"),
        ({"tokens": [[1], [1] * 11]}, "tokens: at most 10 of one prompt"),
        ({"tokens": [[1] * 10] * 9}, ""),
        ({"tokens": []}, ""),
    ],
)
def test_what_no_prompt_could_be_is_not_converted(fields, told):
    answer, thread = convert(SimpleNamespace(**fields))
    assert answer == f"llm42: {told}" if told else answer == "converted"
    assert thread is not threading.main_thread()


def test_where_texts_are_cut_any_length_is_converted():
    assert convert(SimpleNamespace(prompt="x" * 31), allow_auto_truncate=True)[0] == "converted"


def convert(request: SimpleNamespace, **flags: bool) -> tuple[str, threading.Thread | None]:
    """The answer, and the thread that has converted."""
    settings = {"context_len": CONTEXT, "tokenizer": Tokenizer(), "allow_auto_truncate": False}
    manager = SimpleNamespace(**settings | flags)
    serving = SimpleNamespace(tokenizer_manager=manager, create_error_response=str)
    threads = []

    async def original(serving, adapted, request, raw_request) -> str:
        threads.append(threading.current_thread())
        return "converted"

    answer = asyncio.run(convert_aside(original, serving, request, request, None))
    return answer, next(iter(threads), None)
