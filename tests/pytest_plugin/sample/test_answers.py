"""A user's project: prompts whose answers must not change."""

import pytest


@pytest.mark.llm42(max_tokens=12)
def test_capital(assert_reproducible):
    answer = assert_reproducible("The capital of France is")
    assert answer.text


def test_conversation(assert_reproducible):
    messages = [{"role": "user", "content": "Name a colour."}]
    assert_reproducible(messages, max_tokens=8)
    tools = [{"type": "function", "function": {"name": "paint"}}]
    answer = assert_reproducible(messages, tools=tools, max_tokens=8, temperature=0.8, seed=7, n=2)
    assert [choice.tool_calls[0].name for choice in answer.choices] == ["paint"] * 2


@pytest.mark.parametrize("animal", ["cat", "dog"])
def test_sounds(assert_reproducible, animal):
    assert_reproducible(f"The {animal} says", max_tokens=8)


def test_without_a_server():
    assert True
