"""Suites and golden files are read and written, and every mistake is one line."""

import json
import re
from itertools import pairwise
from string import ascii_lowercase

import pytest

from llm42_sglang.errors import UserError
from llm42_sglang.repro.differences import Fingerprint
from llm42_sglang.repro.golden import Block, GoldenFile, load_golden, save_golden
from llm42_sglang.repro.output import Output, Stamp, ToolCall
from llm42_sglang.repro.suite import Case, Message, Sampling, load_suite

STAMP = Stamp(verified=True, fingerprint="f", output_digest="d")
TEXT = 'one\ntwo\r\n"three"\u2028\x00é\ud83d'
CALL = ToolCall(name="f", arguments='{"b":1,"a":[null]}')
OUTPUT = Output(text=TEXT, finish_reason="stop", ids=[1, 2], tokens=["a", "b\n"], receipt=STAMP)
SEVERAL = Output(text="", tool_calls=[CALL], others=[Output(text="", finish_reason="stop")])
SCHEMA = {"z": {"default": None}, "a": [[{"y": 1, "b": 2}]]}  # its order counts
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
FACTS = {"tokenizer": None, "eps": 1e-05, "nested": {"list": [1, {"a": None}]}}
CASES = [
    Case(id="b", prompt="x", sampling=Sampling(logit_bias={"10": 1, "9": 2})),
    Case(
        id="a",
        messages=[Message(role="user", content="y\nz")],
        tools=[TOOL],
        response_format=FORMAT,
        sampling=Sampling(seed=3, n=2),
        tags=["t"],
    ),
]
BLOCK = Block(
    model="m",
    fingerprint=Fingerprint(digest="f", facts=FACTS),
    outputs={"b": OUTPUT, "a": SEVERAL},
)
GOLDEN = GoldenFile(cases=CASES, blocks=[BLOCK])


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
    assert '          "ids": [1, 2],' in first  # ids in one line
    assert '            "one\\n",' in first  # the text line by line
    content = json.loads(path.read_text())
    assert [case["id"] for case in content["cases"]] == ["b", "a"]
    assert list(content) == sorted(content)
    for asked in (content["cases"][1]["tools"], content["cases"][1]["response_format"]):
        assert json.dumps(SCHEMA) in json.dumps(asked)
    # One changed token changes two lines of the file.
    output = OUTPUT.model_copy(update={"ids": [1, 3], "text": TEXT.replace("two", "Two")})
    block = BLOCK.model_copy(update={"outputs": BLOCK.outputs | {"b": output}})
    save_golden(GOLDEN.model_copy(update={"blocks": [block]}), path)
    second = path.read_text().split("\n")
    assert sum(a != b for a, b in zip(first, second, strict=True)) == 2


def test_a_file_of_version_1_has_one_block(tmp_path):
    path = tmp_path / "golden.json"
    save_golden(GOLDEN, path)
    content = json.loads(path.read_text())
    (block,) = content.pop("blocks")
    outputs = block.pop("outputs")
    for case in content["cases"]:
        case["output"] = outputs[case["id"]]
    path.write_text(json.dumps(content | block | {"version": 1}))
    assert load_golden(path) == GOLDEN
    content["cases"][0]["id"] = ["b"]  # nothing that anybody wrote
    path.write_text(json.dumps(content | block | {"version": 1}))
    with pytest.raises(UserError, match="version: Input should be 2"):
        load_golden(path)


SEEN = Fingerprint(digest="g", facts=FACTS | {"threads": 2})


def test_new_answers_come_beside_those_of_their_fingerprint_or_in_place_of_old_ones():
    other = Output(text="other")
    new = Block(model="m", fingerprint=SEEN, outputs={"b": other})
    added = GOLDEN.with_block(new, CASES)
    assert added.blocks == [BLOCK, new]
    assert added.nearest(SEEN) == new and added.nearest(SEEN, CASES[1]) == BLOCK
    again = added.with_block(new.model_copy(update={"outputs": {"a": other}}), CASES)
    assert again.blocks[1].outputs == {"a": other, "b": other}
    # Other threads are another machine. A new software on the same one takes the place of the old.
    assert GOLDEN.of_machine(SEEN) == [] and GOLDEN.of_machine(None) == []
    update = SEEN.model_copy(update={"digest": "h", "facts": SEEN.facts | {"eps": 2}})
    newer = Block(model="m", fingerprint=update, outputs={"b": OUTPUT})
    assert again.of_machine(update) == again.blocks[1:]
    assert added.with_block(newer, CASES, added.of_machine(update)).blocks == [BLOCK, newer]
    replaced = again.with_block(newer, CASES, again.of_machine(update))
    assert [block.outputs.keys() for block in replaced.blocks] == [{"a", "b"}, {"b"}, {"a"}]
    newer = newer.model_copy(update={"outputs": {"a": OUTPUT}})
    replaced = replaced.with_block(newer, CASES, replaced.of_machine(update))
    assert [block.outputs.keys() for block in replaced.blocks] == [{"a", "b"}, {"a", "b"}]
    # What nobody asks any more has no answer.
    asked = [CASES[0].model_copy(update={"prompt": "?"}), CASES[1]]
    kept = again.with_block(new, asked).blocks
    assert [block.outputs.keys() for block in kept] == [{"a"}, {"a", "b"}]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"tags": ["u"]}, True),
        ({"tools": [{"function": {"name": "f", "parameters": dict(reversed(SCHEMA.items()))}}]}, 0),
        ({"response_format": None}, False),
        ({"sampling": Sampling(seed=3, n=3)}, False),
    ],
)
def test_what_makes_another_question(change, same):
    fields = {name: getattr(CASES[1], name) for name in Case.model_fields}
    assert CASES[1].asks_the_same(Case(**fields | change)) == same


CHAT = '- {"id": "a", "messages": [{"role": "user", "content": "x"}], '
TOOLS = '"tools": [{"type": "function", "function": {"name": "f"'
JSON_SCHEMA = '"response_format": {"type": "json_schema", "json_schema": '
# A text of 600 characters, and 2^26 values.
BOMB = "{a: &a [x, x], " + ", ".join(
    f"{b}: &{b} [*{a}, *{a}]" for a, b in pairwise(ascii_lowercase)
)


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
        (CHAT + '"tool_choice": "auto"}', "cases.0: tool_choice needs tools"),
        (CHAT + TOOLS + '}}], "tool_choice": {"function": {"name": "g"}}}', "called 'g'"),
        (CHAT + TOOLS + '}}], "tool_choice": "f"}', "tool_choice"),
        (CHAT + TOOLS + ', "parameter": {}}}]}', "tools.0.function.parameter: Extra inputs"),
        (CHAT + TOOLS + ', "parameters": []}}]}', "parameters: Input should be a valid dict"),
        (CHAT + TOOLS + ', "parameters": {"a": ' + "[" * 40 + "]" * 40 + "}}}]}", "32 levels"),
        (CHAT + '"response_format": {"type": "xml"}}', "response_format: Input tag 'xml'"),
        (CHAT + '"response_format": []}', "response_format"),
        (CHAT + JSON_SCHEMA + '{"name": "x"}}}', "json_schema.schema: Field required"),
        (CHAT + JSON_SCHEMA + '{"schema": {}, "name": "x", "srict": true}}}', "srict: Extra"),
        ("- {id: a, prompt: x, sampling: {n: 0}}", "sampling.n: Input should be greater"),
        ("- {id: a, prompt: x, sampling: {n: 1000000}}", "sampling.n: Input should be less"),
        ("- {id: a, prompt: x, sampling: {stop_token_ids: [-1]}}", "stop_token_ids.0"),
        ("- {id: a, prompt: x, sampling: {logit_bias: {x: 1}}}", "logit_bias.x"),
        ("- {id: a, prompt: x, sampling: {logit_bias: {7: .inf}}}", "finite"),
        ("- {id: a, messages: [{role: user}]}", "messages.0: a message has content"),
        (
            "- {id: a, messages: [{role: user, content: x, tool_call_id: c}]}",
            "tool_call_id says which",
        ),
        (
            "- {id: a, messages: [{role: user, content: [{type: image_url, image_url: {}}]}]}",
            "messages.0.content: image_url: a suite asks with text only; put a part of type text",
        ),
        (
            "- {id: a, messages: [{role: user, content: [{text: x}]}]}",
            "content: None: a suite asks with",
        ),
        (
            "- {id: a, messages: [{role: user, content: x, tool_calls: [{id: c, function: "
            "{name: f, arguments: ''}}]}]}",
            "tool_calls are an assistant's, not of role 'user'",
        ),
        (
            f"- {{id: a, prompt: x, tools: [{{function: {{name: f, parameters: {BOMB}}}}}}}]}}",
            "more than 1000000 characters and values",
        ),
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
        ('"blocks":', '"blocks": [], "blocks":', "'blocks' stands twice in an object"),
        ('"model": "m"', '"modell": "m"', "blocks.0.model: Field required"),
        ("llm42-golden", "llm42-receipt", "format: Input should be"),
        ('"version": 2', '"version": 3', "version: Input should be 2"),
        ('"ids"', '"idz"', "blocks.0.outputs.b.idz"),
        ('"id": "a"', '"id": "b"', "the id 'b' stands twice"),
    ],
)
def test_files_that_are_no_golden_files(tmp_path, old, new, message):
    path = tmp_path / "golden.json"
    save_golden(GOLDEN, path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=f"^[^\n]*{re.escape(message)}[^\n]*$"):
        load_golden(path)
