"""Suites and golden files are read and written, and every mistake is one line."""

import json
import re

import pytest

from llm42_sglang.errors import UserError
from llm42_sglang.repro.differences import Fingerprint
from llm42_sglang.repro.golden import GoldenFile, RecordedCase, load_golden, save_golden
from llm42_sglang.repro.output import Output, Stamp
from llm42_sglang.repro.suite import Message, Sampling, load_suite

STAMP = Stamp(verified=True, fingerprint="f", output_digest="d")
TEXT = 'one\ntwo\r\n"three"\u2028\x00é\ud83d'
OUTPUT = Output(text=TEXT, finish_reason="stop", ids=[1, 2], tokens=["a", "b\n"], receipt=STAMP)
TALK = [Message(role="user", content="y\nz")]
SEED = Sampling(seed=3)
CASES = [
    RecordedCase(id="b", prompt="x", output=OUTPUT),
    RecordedCase(id="a", messages=TALK, sampling=SEED, tags=["t"], output=Output(text="")),
]
FACTS = {"tokenizer": None, "eps": 1e-05, "nested": {"list": [1, {"a": None}]}}
GOLDEN = GoldenFile(model="m", fingerprint=Fingerprint(digest="f", facts=FACTS), cases=CASES)


YAML = """
sampling: {max_tokens: 5, seed: 1}
cases:
  - {id: a, prompt: Hello}
  - {id: b, messages: [{role: user, content: Hi}], sampling: {seed: 2}, tags: [x]}
"""


def test_yaml_with_defaults_a_list_and_json_lines(tmp_path):
    path, lines = tmp_path / "suite.yaml", tmp_path / "suite.jsonl"
    path.write_text(YAML)
    first, second = load_suite(path).cases
    assert first.prompt == first.question == "Hello"
    assert first.sampling.given() == {"temperature": 0, "max_tokens": 5, "seed": 1}
    assert second.question == "Hi" and second.tags == ["x"]
    assert second.sampling.given() == {"temperature": 0, "max_tokens": 5, "seed": 2}
    path.write_text("- {id: a, prompt: x}\n- {id: b, prompt: x}")
    lines.write_text('{"id": "a", "prompt": "x"}\n\n{"id": "b", "prompt": "x"}')
    assert load_suite(path) == load_suite(lines)


def test_a_person_can_diff_it_and_it_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "golden.json"
    save_golden(GOLDEN, path)
    first = path.read_text().split("\n")
    assert load_golden(path) == GOLDEN
    assert '        "ids": [1, 2],' in first  # ids in one line
    assert '          "one\\n",' in first  # the text line by line
    content = json.loads(path.read_text())
    assert [case["id"] for case in content["cases"]] == ["b", "a"]
    assert list(content) == sorted(content)
    # One changed token changes two lines of the file.
    output = OUTPUT.model_copy(update={"ids": [1, 3], "text": TEXT.replace("two", "Two")})
    cases = [CASES[0].model_copy(update={"output": output}), CASES[1]]
    save_golden(GOLDEN.model_copy(update={"cases": cases}), path)
    second = path.read_text().split("\n")
    assert sum(a != b for a, b in zip(first, second, strict=True)) == 2


@pytest.mark.parametrize(
    ("text", "message"),
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
        ("- {id: a, prompt: x, prompt: y}", "line 1: not YAML: prompt twice"),
        ("a: [", "not YAML"),
        ('{"id": "a", "prompt": "x"}\n{"id": ', "line 2: not JSON"),
        (b"a: \xff", "is not UTF-8: byte 3"),
        ("- {{a: b}: c}", "not YAML: "),
        ("[" * 9999, "not YAML: "),
        ('{"id": "a", "prompt": ' + "[" * 99999, "line 1: not JSON"),
        ("\n- {id: a, prompt: 'x\0'}", "line 2: not YAML: write \\u0000 in"),
        ("\n- {id: a, prompt: 'x\x85'}", "line 2: not YAML: write \\u0085 in"),
        ("\n- {id: a, prompt: 'x\u2028'}", "line 2: not YAML: write \\u2028 in"),
        ('- {id: a, prompt: "\\ud83d"}', "case 'a' has half a character, '\\ud83d': write it"),
        ('- {id: "a\\e[31m", prompt: x}', "cases.0.id: an id is one line, without control"),
        ("- {id: a, prompt: x, sampling: {temperature: .nan}}", "should be a finite number"),
        ('- {id: a, prompt: x, "b\\nc": 1}', "cases.0.b c: Extra inputs"),
        (None, "cannot read"),
    ],
)
def test_mistakes_in_suites_are_named_in_one_line(tmp_path, text, message):
    path = tmp_path / ("suite.jsonl" if "JSON" in message else "suite.yaml")
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=f"^[^\n]*{re.escape(message)}[^\n]*$"):
        load_suite(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"ids": [1', "", "is not JSON, or was cut off"),
        ('"model": "m"', '"modell": "m"', "model: Field required"),
        ("-golden", "-receipt", "format: Input should be"),
        ('"version": 1', '"version": 2', "version: Input should be 1"),
        ('"ids"', '"idz"', "cases.0.output.idz"),
        ('"id": "a"', '"id": "b"', "the id 'b' stands twice"),
    ],
)
def test_files_that_are_no_golden_files(tmp_path, old, new, message):
    path = tmp_path / "golden.json"
    save_golden(GOLDEN, path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=f"^[^\n]*{re.escape(message)}[^\n]*$"):
        load_golden(path)
