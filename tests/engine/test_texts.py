"""Long texts hold nobody. No server."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from llm42_sglang.engine.texts import LONG, tokenize_aside


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
