"""`llm42 record` and `llm42 check`, end to end on fake endpoints, negative controls included."""

import json
import xml.etree.ElementTree as xml
from html import unescape

import pytest

ONE = ["--conditions", "alone"]  # where the condition does not matter


@pytest.mark.parametrize(
    ("options", "verdict", "said"),
    [
        ("", "PASSED: 3 of 3", "fingerprint: the same"),
        ("--incremental", "PASSED: 3 of 3", "fingerprint: the same"),
        ("--torch 2.15.0", "PASSED: 3 of 3", "fingerprint: torch 2.14.1 -> 2.15.0"),
        # Negative controls: the fingerprint is the same, verified is claimed, a bit differs.
        ("--flips load", "FAILED: 0 of 3", "token 5: recorded"),
        ("--flips stream", "FAILED: 0 of 3", "token 5: recorded"),
        ("--wobble", "FAILED: 0 of 3", "logprobs: recorded"),
        ("--kind stock --flips load", "FAILED: 0 of 3", "token 5: recorded"),
        ("--kind stock", "UNKNOWN: 0 of 3", "carry no receipt"),
        ("--unverified", "UNKNOWN: 0 of 3", "not every answer is verified"),
        ("--weights 2", "UNKNOWN: 0 of 3", "the fingerprint (weights changed): token 0: recorded"),
    ],
)
def test_the_verdict_in_every_form(golden, fake, llm42, tmp_path, options, verdict, said):
    server, junit, page = fake(*options.split()), tmp_path / "junit.xml", tmp_path / "page.html"
    done = llm42("check", golden, "--url", server.url, "--junit", junit, "--report", page)
    word = verdict.partition(":")[0]
    assert done.status == (word != "PASSED")
    assert said in done.out
    assert done.out.splitlines()[-1] == f"{verdict} cases passed"
    suite = xml.parse(junit).getroot().find("testsuite")
    children = {"PASSED": [], "FAILED": ["failure"], "UNKNOWN": ["error"]}[word]
    assert [[one.tag for one in case] for case in suite.iter("testcase")] == [children] * 3
    counts = [3 if word == kind else 0 for kind in ("FAILED", "UNKNOWN")]
    assert [int(suite.get(name)) for name in ("failures", "errors")] == counts
    assert f"<h1>{word}</h1>" in page.read_text()
    assert ("The first difference: sea" in page.read_text()) is ("recorded" in said)
    for file in (junit, page):
        assert said.removeprefix("fingerprint: ") in unescape(file.read_text())
    kinds = [body.get("stream", False) for _, body in server.requests]
    assert kinds.count(True) == 3  # the streaming condition
    assert len(kinds) > 5 * 3  # there was company


def test_a_chat_only_endpoint_is_asked_for_less_until_it_answers(fake, llm42, tmp_path):
    suite, golden = tmp_path / "suite.jsonl", tmp_path / "golden.json"
    suite.write_text('{"id": "a", "messages": [{"role": "user", "content": "Hi"}]}\n')
    server = fake("--kind", "openai")
    done = llm42("record", suite, "--url", server.url + "/v1", "--out", golden)
    assert done.status == 0 and "gives no receipts" in done.err
    assert llm42("check", golden, "--url", server.url).out.splitlines()[-1].startswith("UNKNOWN")
    bodies = [body for _, body in server.requests]
    assert all(body["model"] == "fake" and "deterministic" not in body for body in bodies)
    suite.write_text('{"id": "a", "prompt": "Hi"}\n')
    done = llm42("record", suite, "--url", server.url, "--out", golden)
    assert "answered with 404" in done.mistake and "write it as messages" in done.err


def test_update_records_what_is_reproducible(golden, fake, llm42):
    before = golden.read_bytes()
    assert llm42("check", golden, "--url", fake().url, "--update").status == 0
    assert golden.read_bytes() == before  # ids and all, which streams of chats lack
    server = fake("--weights", "2", "--torch", "2.15.0")
    assert llm42("check", golden, "--url", server.url, *ONE).status == 1
    done = llm42("check", golden, "--url", server.url, "--update")
    assert done.status == 0 and "now holds the new answers" in done.out
    done = llm42("check", golden, "--url", server.url, "--only", "sea", "--tag", "chat", *ONE)
    assert done.status == 0 and done.out.endswith("\nPASSED: 2 of 2 cases passed\n")
    assert llm42("check", golden, "--url", fake().url, *ONE).status == 1
    ids = [case["id"] for case in json.loads(golden.read_text())["cases"]]
    assert ids == ["sea", "greeting", "sampled"]


def test_mistakes_are_one_line_and_status_2(golden, suite, fake, llm42, tmp_path):
    url, before = fake().url, golden.read_bytes()
    noisy, other = fake("--flips", "load").url, fake("--weights", "2").url
    unverified = fake("--weights", "2", "--unverified").url
    wrong = [
        (["check", suite, "--url", url], "is not JSON"),
        (["check", golden, "--url", "http://127.0.0.1:9"], "no server answers at http://127."),
        (["check", golden, "--url", "localhost"], "is no URL"),
        (["check", golden, "--url", url, "--only", "see"], "no case 'see'; there are sea,"),
        (["check", golden, "--url", url, "--tag", "see"], "no case with tag 'see'; there are chat"),
        (["check", golden, "--url", url, "--conditions", "calm"], "--conditions takes alone"),
        (["check", golden, "--url", url, "--report", "/nowhere/x"], "cannot write /nowhere/x"),
        (["check", golden, "--url", url, "--junit", "/nowhere/x"], "cannot write /nowhere/x"),
        (["record", suite, "--url", url, "--out", "/nowhere/x"], "cannot write /nowhere/x"),
        (["probe", "--url", fake("--kind", "stock").url, "--deterministic"], "no llm42 server"),
        # Servers of ours that cannot vouch for what they say.
        (["check", golden, "--url", fake("--sick").url], "does not serve"),
        (["check", golden, "--url", fake("--lies").url], "do not hash to the fingerprint"),
        (["record", suite, "--url", fake("--unverified").url, "--out", golden], "not verify its"),
        # What is not reproducible, or not verified, is not recorded.
        (["check", golden, "--url", noisy, "--update"], "differs from condition to condition"),
        (["check", golden, "--url", unverified, "--update", *ONE], "is not verified; the golden"),
        (["check", golden, "--url", other, "--update", *ONE, "--only", "sea"], "update all cases"),
    ]
    for arguments, said in wrong:
        assert said in llm42(*arguments).mistake, arguments
    assert golden.read_bytes() == before
    assert not list(tmp_path.glob(".*.new"))


def test_a_server_that_ends_meanwhile_leaves_the_golden_file(golden, suite, fake, llm42):
    """It is recorded over only when all answers are there."""
    before, server = golden.read_bytes(), fake()
    answers = iter([server.answer])  # one; then the connection is closed without a response
    server.answer = lambda *asked: next(answers)(*asked)
    server.handle_error = lambda *_: None
    done = llm42("record", suite, "--url", server.url, "--out", golden)
    assert "stopped answering" in done.mistake
    assert golden.read_bytes() == before


def test_what_looks_like_markup_is_printed_as_it_is(fake, llm42, tmp_path):
    suite, golden = tmp_path / "suite.yaml", tmp_path / "golden.json"
    suite.write_text('- {id: "[/red] :cat: [bold]", prompt: x, sampling: {max_tokens: 8}}')
    url = fake().url
    assert llm42("record", suite, "--url", url, "--out", golden).status == 0
    assert "[/red] :cat: [bold]" in llm42("check", golden, "--url", url, *ONE).out
    assert "[/red] :cat:" in llm42("probe", "--url", url, "--suite", suite, "--repeats", 1).out
