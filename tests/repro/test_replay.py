"""`llm42 replay`: authentic, not authentic, unknown."""

import json
from functools import reduce
from operator import getitem

import pytest


@pytest.mark.parametrize("case", ["sea", "greeting", "sampled"])
def test_what_the_server_said_is_authentic(receipts, fake, llm42, case):
    """As `llm42 record` wrote it; and a bare request and response are enough."""
    path, same, other = receipts / f"{case}.json", fake().url, fake("--weights", "2").url
    assert llm42("replay", path, "--url", same).out.startswith("AUTHENTIC: ")
    done = llm42("replay", path, "--url", other)
    assert done == (1, "UNKNOWN: made under another fingerprint: weights changed\n", "")
    done = llm42("replay", path, "--url", fake("--kind", "stock").url)
    assert done.status == 1 and "gives no receipts" in done.out
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({key: saved[key] for key in ("request", "response")}))
    assert llm42("replay", path, "--url", same).status == 0
    said = llm42("replay", path, "--url", other).out
    assert "the file does not say of what it was made" in said
    path.write_text('{"request": {}, "response": {}}')
    assert "path: Field required" in llm42("replay", path, "--url", same).mistake


def test_every_case_has_a_file_of_its_own(fake, llm42, tmp_path):
    suite, folder = tmp_path / "suite.yaml", tmp_path / "receipts"
    suite.write_text("- {id: a/b, prompt: x}\n- {id: a_b, prompt: y}\n- {id: .., prompt: z}")
    out = ("--out", tmp_path / "golden.json", "--receipts", folder)
    assert llm42("record", suite, "--url", fake().url, *out).status == 0
    assert len(list(folder.iterdir())) == 3


def tampered(receipts, place: str, change):
    """`place`: the keys that lead to what `change` changes; None is what is not there."""
    path = receipts / "sea.json"
    saved = json.loads(path.read_text())
    *parents, key = place.split(".")
    holder = reduce(getitem, parents, saved)
    changed = {key: change(holder.pop(key, None))}
    holder |= changed if changed[key] is not None else {}
    path.write_text(json.dumps(saved))
    return path


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("response.text", lambda text: text.replace("sea", "lake", 1)),
        ("response.output_ids", lambda ids: [*ids[:3], ids[3] + 1, *ids[4:]]),
        ("response.meta_info.llm42.output_digest", lambda digest: digest[::-1]),
        ("response.meta_info.llm42.seed", lambda seed: 8),
        ("request.text", lambda text: text + "!"),
    ],
)
def test_a_changed_request_or_response_is_not_authentic(receipts, fake, llm42, place, change):
    done = llm42("replay", tampered(receipts, place, change), "--url", fake().url)
    assert done.status == 1
    assert done.out.startswith("NOT AUTHENTIC: ")


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("response.meta_info.llm42", None, "carries no receipt"),
        ("response.meta_info.llm42.output_digest", None, "receipt.output_digest: Field required"),
        ("response", {"answer": 42}, "the answer of /generate is malformed"),
        ("path", "/v1/audio", "path: Input should be '/generate'"),
        ("request", None, "request: Field required"),
        ("version", 9, "version: Input should be 1"),
        ("response.choices", [{}, {}], "has several choices"),
    ],
)
def test_mistakes_are_one_line_and_status_2(receipts, fake, llm42, place, value, said):
    path = tampered(receipts, place, lambda _: value)
    assert said in llm42("replay", path, "--url", fake().url).mistake
