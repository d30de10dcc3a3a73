"""Golden files: what goes in comes out, a person can diff them, nothing damages them."""

import json

import pytest

from llm42_sglang.errors import UserError
from llm42_sglang.repro.differences import Fingerprint
from llm42_sglang.repro.golden import Golden, Recorded, load_golden, save_golden
from llm42_sglang.repro.output import Output, Stamp
from llm42_sglang.repro.suite import Message, Sampling

STAMP = Stamp(verified=True, fingerprint="f", output_digest="d")
TEXT = 'one\ntwo\r\n"three"\u2028\x00é'
OUTPUT = Output(text=TEXT, finish_reason="stop", ids=[1, 2], tokens=["a", "b\n"], receipt=STAMP)
CASES = [
    Recorded(id="b", prompt="x", output=OUTPUT),
    Recorded(
        id="a",
        messages=[Message(role="user", content="y\nz")],
        sampling=Sampling(seed=3),
        tags=["t"],
        output=Output(text=""),
    ),
]
FACTS = {"tokenizer": None, "eps": 1e-05, "nested": {"list": [1, {"a": None}]}}
GOLDEN = Golden(model="m", fingerprint=Fingerprint(digest="f", facts=FACTS), cases=CASES)


@pytest.fixture
def path(tmp_path):
    save_golden(GOLDEN, tmp_path / "golden.json")
    return tmp_path / "golden.json"


def test_round_trip(path):
    assert load_golden(path) == GOLDEN
    first = path.read_bytes()
    save_golden(load_golden(path), path)
    assert path.read_bytes() == first


def test_a_person_can_diff_it(path):
    lines = path.read_text().split("\n")
    assert '        "ids": [1, 2],' in lines  # ids in one line
    assert '          "one\\n",' in lines  # the text line by line
    assert [case["id"] for case in json.loads(path.read_text())["cases"]] == ["b", "a"]
    keys = list(json.loads(path.read_text()))
    assert keys == sorted(keys)


def test_one_changed_token_changes_two_lines_of_the_file(path):
    before = path.read_text().split("\n")
    output = OUTPUT.model_copy(update={"ids": [1, 3], "text": TEXT.replace("two", "Two")})
    changed = GOLDEN.model_copy(
        update={"cases": [CASES[0].model_copy(update={"output": output}), CASES[1]]}
    )
    save_golden(changed, path)
    after = path.read_text().split("\n")
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 2


def test_unknown_case_names_are_named():
    assert [case.id for case in GOLDEN.selected(["a"])] == ["a"]
    assert [case.id for case in GOLDEN.selected([])] == ["b", "a"]
    assert [case.id for case in GOLDEN.selected([], ["t"])] == ["a"]
    assert [case.id for case in GOLDEN.selected(["b"], ["t"])] == ["b", "a"]
    with pytest.raises(UserError, match="no case 'c'; there are b, a"):
        GOLDEN.selected(["a", "c"])
    with pytest.raises(UserError, match="no case with tag 'c'; there are t"):
        GOLDEN.selected([], ["c"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[: len(text) // 2], "is not JSON, or was cut off"),
        (lambda text: "[]", "should be a valid dictionary"),
        (lambda text: "{}", "model: Field required"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "version: Input should be 1"),
        (lambda text: text.replace('"ids"', '"idz"'), "cases.0.output.idz"),
        (lambda text: text.replace('"id": "a"', '"id": "b"'), "the id 'b' stands twice"),
    ],
)
def test_files_that_are_no_golden_files(path, change, said):
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError) as error:
        load_golden(path)
    assert said in str(error.value) and "\n" not in str(error.value)
