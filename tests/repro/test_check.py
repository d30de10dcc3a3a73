"""`llm42 record` and `llm42 check` from end to end, on fake endpoints, with negative controls."""

import json
import re
import shutil
import xml.etree.ElementTree as xml
from html import unescape

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm42_sglang.errors import UserError, printable
from llm42_sglang.repro.endpoint import connect
from llm42_sglang.repro.prompts import BACKGROUND
from llm42_sglang.repro.suite import Case

ONE = ["--conditions", "alone"]  # where the condition does not matter


@pytest.mark.parametrize(
    ("options", "verdict", "message"),
    [
        ("", "PASSED: 3 of 3", "fingerprint: the same"),
        ("--incremental", "PASSED: 3 of 3", "fingerprint: the same"),
        ("--torch 2.15.0", "PASSED: 3 of 3", "fingerprint: torch 2.14.1 -> 2.15.0"),
        # Negative controls: a bit differs, though the fingerprint is the same and all is verified.
        ("--flips load", "FAILED: 0 of 3", "token 5: recorded"),
        ("--flips stream", "FAILED: 0 of 3", "token 5: recorded"),
        ("--wobble", "FAILED: 0 of 3", "logprobs: recorded"),
        ("--kind stock --flips load", "FAILED: 0 of 3", "token 5: recorded"),
        ("--kind stock", "UNKNOWN: 0 of 3", "carry no receipt"),
        ("--unverified", "UNKNOWN: 0 of 3", "not every answer is verified"),
        ("--weights 2", "UNKNOWN: 0 of 3", "the fingerprint (weights changed): token 0: recorded"),
    ],
)
def test_the_verdict_in_every_form(golden, fake, llm42, tmp_path, options, verdict, message):
    server, junit, page = fake(*options.split()), tmp_path / "junit.xml", tmp_path / "page.html"
    command = llm42("check", golden, "--url", server.url, "--junit", junit, "--report", page)
    word = verdict.partition(":")[0]
    assert command.status == (word != "PASSED")
    assert message in command.out
    assert command.out.splitlines()[-1] == f"{verdict} cases passed"
    suite = xml.parse(junit).getroot().find("testsuite")
    children = {"PASSED": [], "FAILED": ["failure"], "UNKNOWN": ["error"]}[word]
    assert [[child.tag for child in case] for case in suite.iter("testcase")] == [children] * 3
    counts = [3 if word == kind else 0 for kind in ("FAILED", "UNKNOWN")]
    assert [int(suite.get(name)) for name in ("failures", "errors")] == counts
    assert f"<h1>{word}</h1>" in page.read_text()
    assert ("The first difference: sea" in page.read_text()) is ("recorded" in message)
    for file in (junit, page):
        assert message.removeprefix("fingerprint: ") in unescape(file.read_text())
    streamed = [body.get("stream", False) for _, body in server.requests]
    assert streamed.count(True) == 3  # the streaming condition
    assert len(streamed) > 5 * 3  # there were background requests


def test_a_chat_only_endpoint_is_asked_for_less_until_it_answers(fake, llm42, tmp_path):
    suite, golden = tmp_path / "suite.jsonl", tmp_path / "golden.json"
    suite.write_text('{"id": "a", "messages": [{"role": "user", "content": "Hi"}]}\n')
    server = fake("--kind", "openai")
    command = llm42("record", suite, "--url", server.url + "/v1", "--out", golden)
    assert command.status == 0 and "gives no receipts" in command.err
    assert llm42("check", golden, "--url", server.url).out.splitlines()[-1].startswith("UNKNOWN")
    bodies = [body for _, body in server.requests]
    assert all(body["model"] == "fake" and "deterministic" not in body for body in bodies)
    suite.write_text('{"id": "a", "prompt": "Hi"}\n')
    command = llm42("record", suite, "--url", server.url, "--out", golden)
    assert "answered with 404" in command.mistake and "write prompts as messages" in command.err


def test_update_records_what_is_reproducible(golden, fake, llm42):
    before = golden.read_bytes()
    assert llm42("check", golden, "--url", fake().url, "--update").status == 0
    assert golden.read_bytes() == before  # ids and all, which streams of chats lack
    server = fake("--weights", "2", "--torch", "2.15.0")
    assert llm42("check", golden, "--url", server.url, *ONE).status == 1
    command = llm42("check", golden, "--url", server.url, "--update")
    assert command.status == 0 and "now holds the new answers" in command.out
    command = llm42("check", golden, "--url", server.url, "--only", "sea", "--tag", "chat", *ONE)
    assert command.status == 0 and command.out.endswith("\nPASSED: 2 of 2 cases passed\n")
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
        (["check", golden, "--url", "http://localhost:port"], "is no URL"),
        (["check", golden, "--url", url, "--api-key", "ключ"], "is no key"),
        (["record", suite, "--url", url, "--out", tmp_path / ("x" * 300)], "File name too long"),
        (["check", golden, "--url", url, "--only", "see"], "no case 'see'; there are sea,"),
        (["check", golden, "--url", url, "--tag", "see"], "no case with tag 'see'; there are chat"),
        (["check", golden, "--url", url, "--conditions", "calm"], "--conditions takes alone"),
        (["check", golden, "--url", url, "--report", "/nowhere/x"], "cannot write /nowhere/x"),
        (["check", golden, "--url", url, "--junit", "/nowhere/x"], "cannot write /nowhere/x"),
        (["record", suite, "--url", url, "--out", "/nowhere/x"], "cannot write /nowhere/x"),
        (["probe", "--url", fake("--kind", "stock").url, "--deterministic"], "no llm42 server"),
        # llm42 servers whose answers cannot be relied on.
        (["check", golden, "--url", fake("--sick").url], "does not serve"),
        (["check", golden, "--url", fake("--lies").url], "do not hash to the fingerprint"),
        (["record", suite, "--url", fake("--unverified").url, "--out", golden], "not verify its"),
        # What is not reproducible, or not verified, is not recorded.
        (["check", golden, "--url", noisy, "--update"], "is not the same under all conditions"),
        (["check", golden, "--url", unverified, "--update", *ONE], "is not verified; the golden"),
        (["check", golden, "--url", other, "--update", *ONE, "--only", "sea"], "update all cases"),
    ]
    for arguments, message in wrong:
        assert message in llm42(*arguments).mistake, arguments
    assert golden.read_bytes() == before
    assert not list(tmp_path.glob(".*.new"))


def response(body: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Connection: close", *headers, b"", body])


FAULTS = {
    "stopped answering": b"",
    "RemoteProtocolError": response(b'{"text": "The', b"Content-Length: 99"),
    "DecodingError": response(b"no gzip", b"Content-Encoding: gzip"),
    "was answered with 500: \\x1b[31mno luck": b"HTTP/1.1 500 No\r\n\r\n\x1b[31mno luck",
    "the answer is not JSON: \ufffd": response(b"\xff"),
    "the answer is not JSON: [[[": response(b"[" * 99999),
    "is malformed: error('required argument": response(
        b'{"text": "", "output_ids": [], "meta_info": {"output_token_logprobs": [[null, 1, ""]]}}'
    ),
}
CUT_OFF = {
    "an event that is not JSON": b'data: {"text": "The',
    "an event that is not JSON: {\ufffd": b"data: {\xff\n\n",
    "the stream ended before the answer": (
        b'data: {"text": "", "output_ids": [], "meta_info": {}}\n\n'
    ),
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_case_that_is_not_answered_has_a_verdict_and_is_not_recorded(
    golden, suite, receipts, fake, llm42, message
):
    server, before = fake(), golden.read_bytes()
    server.faults["The sea is"] = FAULTS[message]
    url = ("--url", server.url)
    command = llm42("check", golden, *url)
    assert command.status == 1 and command.out.endswith("\nUNKNOWN: 2 of 3 cases passed\n")
    assert message in (shown := " ".join(command.out.split()))
    assert "sea UNKNOWN alone, no answer: " in shown
    assert [path for path, body in server.requests].count("/v1/chat/completions") >= 5
    assert "case sea is not the same" in llm42("check", golden, *url, "--update").mistake
    assert message in llm42("replay", receipts / "sea.json", *url).mistake
    assert message in llm42("probe", *url, "--suite", suite).mistake
    shutil.rmtree(receipts)
    again = llm42("record", suite, *url, "--out", golden, "--receipts", receipts)
    assert again.mistake.startswith("llm42: error: case sea: ") and message in again.mistake
    assert golden.read_bytes() == before and not receipts.exists()


@pytest.mark.parametrize("message", CUT_OFF)
def test_a_case_whose_stream_breaks_off_has_a_verdict(golden, fake, llm42, message):
    server = fake()
    server.faults["The sea is"] = response(CUT_OFF[message])
    command = llm42("check", golden, "--url", server.url, "--conditions", "streaming")
    assert command.status == 1 and command.out.endswith("\nUNKNOWN: 2 of 3 cases passed\n")
    assert "sea UNKNOWN streaming, no answer: " in (shown := " ".join(command.out.split()))
    assert message in shown


def test_background_requests_that_fail_are_no_load_and_end_no_check(golden, fake, llm42):
    server = fake()
    server.faults |= dict.fromkeys(BACKGROUND, FAULTS["stopped answering"])
    out = llm42("check", golden, "--url", server.url, "--conditions", "alone,load").out
    assert out.count("in load, no answer: a background request failed: http") == 3


def test_what_the_endpoint_refuses_of_one_case_it_is_still_asked_of_the_others(fake):
    server = fake("--kind", "stock")
    server.faults["x"] = b"HTTP/1.1 400 No\r\n\r\n"
    with connect(server.url, "openai") as endpoint:
        with pytest.raises(UserError, match="answered with 400"):
            endpoint.ask(Case(id="a", prompt="x"))
        assert endpoint.ask(Case(id="b", prompt="y")).output.ids


ODD = "\0\t\x1b[31m\x85\u061c\u200f\u2028\u202e\ufffe<b>[/red] :cat: "
HALF = re.compile("[\ud800-\udfff]")
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
anything = st.text(st.characters(), max_size=20) | st.sampled_from([ODD, "x" * 100_000])


def test_any_text_goes_from_a_suite_into_all_reports_or_is_refused_in_one_line(
    fake, llm42, tmp_path
):
    suite, golden, junit, page = (tmp_path / name for name in ("s.jsonl", "g", "j.xml", "p.html"))
    url, other = fake("--echo").url, fake("--echo", "--weights", "2").url

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(anything, anything, st.booleans(), st.booleans())
    @example("[/red] :cat: [bold]", ODD, False, True)
    @example("a" * 300, "half a character: \ud83d", True, False)
    @example("a", "half a character: \ud83d", True, True)
    def holds(name, prompt, escape, calls):
        case = {"id": name, "prompt": prompt, "tags": [prompt], "sampling": {"max_tokens": 8}}
        if calls:
            schema = {prompt[:9]: [prompt[:9]]}
            function = {"name": "f", "description": prompt, "parameters": schema}
            case |= {"messages": [{"role": prompt[:9], "content": case.pop("prompt")}]}
            case |= {"tools": [{"function": function}], "sampling": {"max_tokens": 8, "n": 2}}
        text = json.dumps(case, ensure_ascii=escape)
        suite.write_text(text, encoding="utf-8", errors="backslashreplace")
        options = ("--out", golden, "--receipts", tmp_path / "receipts")
        command = llm42("record", suite, "--url", url, *options)
        one_line = name and name == name.strip() and not re.search("[\n\t]", name)
        if not one_line or HALF.search(name + prompt) or CONTROL.search(name):
            assert f"{suite}: case" in command.mistake
            return
        assert command.status == 0, command
        options = ("--conditions", "alone,streaming", "--junit", junit, "--report", page)
        command = llm42("check", golden, "--url", other, *options)
        assert command.out.endswith("\nUNKNOWN: 0 of 1 cases passed\n")
        assert len(name) > 20 or printable(name) in command.out  # as it is, not as markup
        assert len(list(xml.parse(junit).iter("testcase"))) == 1
        assert not CONTROL.search(command.out + page.read_text())
        command = llm42("probe", "--url", url, "--suite", suite, "--repeats", 1)
        assert command.status == 0 and not CONTROL.search(command.out)

    holds()
