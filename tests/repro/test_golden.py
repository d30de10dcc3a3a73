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
TALK = [Message(role="user", content="y\nz")]
SEED = Sampling(seed=3)
CASES = [
    Recorded(id="b", prompt="x", output=OUTPUT),
    Recorded(id="a", messages=TALK, sampling=SEED, tags=["t"], output=Output(text="")),
]
FACTS = {"tokenizer": None, "eps": 1e-05, "nested": {"list": [1, {"a": None}]}}
GOLDEN = Golden(model="m", fingerprint=Fingerprint(digest="f", facts=FACTS), cases=CASES)


@pytest.fixture
def path(tmp_path):
    save_golden(GOLDEN, tmp_path / "golden.json")
    return tmp_path / "golden.json"


def test_a_person_can_diff_it_and_it_is_read_as_it_was_written(path):
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
    ("ids", "tags", "selected"),
    [
        (["a"], [], "a"),
        ([], [], "ba"),
        ([], ["t"], "a"),
        (["b"], ["t"], "ba"),
        (["a", "c"], [], "no case 'c'; there are b, a"),
        ([], ["c"], "no case with tag 'c'; there are t"),
    ],
)
def test_unknown_case_names_are_named(ids, tags, selected):
    try:
        assert "".join(case.id for case in GOLDEN.selected(ids, tags)) == selected
    except UserError as error:
        assert str(error) == selected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[: len(text) // 2], "is not JSON, or was cut off"),
        (lambda text: "[]", "should be a valid dictionary"),
        (lambda text: "{}", "model: Field required"),
        (lambda text: text.replace("-golden", "-receipt"), "format: Input should be"),
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
