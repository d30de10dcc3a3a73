"""`llm42 replay`: authentic, not authentic, unknown."""

import json

import pytest

from tests.repro.test_check import one_line


@pytest.mark.parametrize("case", ["sea", "greeting", "sampled"])
def test_what_the_server_said_is_authentic(receipts, fake, llm42, case):
    done = llm42("replay", receipts / f"{case}.json", "--url", fake().url)
    assert done.status == 0
    assert done.out.startswith("AUTHENTIC: ")


def test_every_case_has_a_file_of_its_own(fake, llm42, tmp_path):
    suite, folder = tmp_path / "suite.yaml", tmp_path / "receipts"
    suite.write_text("- {id: a/b, prompt: x}\n- {id: a_b, prompt: y}\n- {id: .., prompt: z}")
    out = ("--out", tmp_path / "golden.json", "--receipts", folder)
    assert llm42("record", suite, "--url", fake().url, *out).status == 0
    assert len(list(folder.iterdir())) == 3


def tampered(receipts, change):
    path = receipts / "sea.json"
    saved = json.loads(path.read_text())
    change(saved)
    path.write_text(json.dumps(saved))
    return path


def other_text(saved):
    saved["response"]["text"] = saved["response"]["text"].replace("sea", "lake", 1)


def other_ids(saved):
    saved["response"]["output_ids"][3] += 1


def other_digest(saved):
    receipt = saved["response"]["meta_info"]["llm42"]
    receipt["output_digest"] = receipt["output_digest"][::-1]


def other_seed(saved):
    saved["response"]["meta_info"]["llm42"]["seed"] = 8


def other_prompt(saved):
    saved["request"]["text"] += "!"


@pytest.mark.parametrize("change", [other_text, other_ids, other_digest, other_seed, other_prompt])
def test_a_changed_request_or_response_is_not_authentic(receipts, fake, llm42, change):
    done = llm42("replay", tampered(receipts, change), "--url", fake().url)
    assert done.status == 1
    assert done.out.startswith("NOT AUTHENTIC: ")


def test_another_server_cannot_tell_and_says_why(receipts, fake, llm42):
    done = llm42("replay", receipts / "sea.json", "--url", fake("--weights", "2").url)
    assert done.status == 1
    assert done.out == "UNKNOWN: made under another fingerprint: weights changed\n"
    done = llm42("replay", receipts / "sea.json", "--url", fake("--kind", "stock").url)
    assert done.status == 1 and "gives no receipts" in done.out


def test_a_bare_request_and_response_are_enough(receipts, fake, llm42, tmp_path):
    for case in ("sea", "greeting"):
        saved = json.loads((receipts / f"{case}.json").read_text())
        bare = tmp_path / f"{case}.json"
        bare.write_text(json.dumps({key: saved[key] for key in ("request", "response")}))
        assert llm42("replay", bare, "--url", fake().url).status == 0
        done = llm42("replay", bare, "--url", fake("--weights", "2").url)
        assert "the file does not say of what it was made" in done.out


def without_receipt(saved):
    del saved["response"]["meta_info"]["llm42"]


def half_a_receipt(saved):
    del saved["response"]["meta_info"]["llm42"]["output_digest"]


def no_path(saved):
    del saved["path"]
    saved["response"] = {"answer": 42}


def no_request(saved):
    del saved["request"]


def newer(saved):
    saved["version"] = 9


def several(saved):
    saved["path"] = "/v1/completions"
    saved["response"] = {"choices": [{}, {}]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_receipt, "carries no receipt"),
        (half_a_receipt, "is malformed: receipt.output_digest: Field required"),
        (no_path, "of no path known here"),
        (no_request, "request: Field required"),
        (newer, "version: Input should be 1"),
        (several, "has several choices"),
    ],
)
def test_mistakes_are_one_line_and_status_2(receipts, fake, llm42, change, said):
    path = tampered(receipts, change)
    assert said in one_line(llm42("replay", path, "--url", fake().url))
