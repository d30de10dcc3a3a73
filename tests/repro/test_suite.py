"""Suites: what is read, and that every mistake is one line that names the place."""

import json

import pytest

from llm42_sglang.errors import UserError
from llm42_sglang.repro.suite import load_suite


def written(tmp_path, text: str, name: str = "suite.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_yaml_with_defaults(tmp_path):
    text = """
sampling: {max_tokens: 5, seed: 1}
cases:
  - {id: a, prompt: Hello}
  - {id: b, messages: [{role: user, content: Hi}], sampling: {seed: 2}, tags: [x]}
"""
    first, second = load_suite(written(tmp_path, text)).cases
    assert first.prompt == first.question == "Hello"
    assert first.sampling.given() == {"temperature": 0, "max_tokens": 5, "seed": 1}
    assert second.question == "Hi" and second.tags == ["x"]
    assert second.sampling.given() == {"temperature": 0, "max_tokens": 5, "seed": 2}


def test_a_list_and_json_lines_are_suites_too(tmp_path):
    assert load_suite(written(tmp_path, "- {id: a, prompt: x}")).cases[0].id == "a"
    lines = [json.dumps({"id": name, "prompt": "x"}) for name in "ab"]
    suite = load_suite(written(tmp_path, "\n\n".join(lines), "suite.jsonl"))
    assert [case.id for case in suite.cases] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "should be a valid dictionary"),
        ("[]", "cases: List should have at least 1 item"),
        ("- {id: a}", "a case has one of prompt, input_ids and messages"),
        ("- {id: a, prompt: x, messages: [{role: user, content: y}]}", "a case has one of"),
        ("- {id: a, prompt: x}\n- {id: a, prompt: y}", "the id 'a' stands twice"),
        ("- {id: a, prompt: x, sampling: {tempereture: 1}}", "cases.0.sampling.tempereture"),
        ("- {id: a, prompt: x, smapling: {}}", "cases.0.smapling"),
        ("- {id: ' a', prompt: x}", "cases.0.id"),
        ("- {id: 3, prompt: x}", "cases.0.id: Input should be a valid string"),
        ("- {id: a, prompt: x, sampling: {max_tokens: 0}}", "max_tokens"),
        ("- {id: a, prompt: x, prompt: y}", "line 1: not YAML: prompt twice"),
        ("sampling: 3\ncases: []", "sampling"),
        ("a: [", "not YAML"),
        ('{"id": "a", "prompt": "x"}\n{"id": ', "line 2: not JSON"),
        (b"a: \xff", "is not UTF-8: byte 3"),
        (None, "cannot read"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path, text, said):
    path = tmp_path / ("suite.jsonl" if "JSON" in said else "suite.yaml")
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        load_suite(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
