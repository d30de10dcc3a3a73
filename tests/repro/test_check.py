"""`llm42 record` and `llm42 check`, end to end on fake endpoints, negative controls included."""

import json
import xml.etree.ElementTree as xml

import pytest

from llm42_sglang.repro.conditions import CONDITIONS

ONE = ["--conditions", "alone"]  # where the condition does not matter


def one_line(done) -> str:
    """What a mistake says: one line on stderr besides progress, no traceback, status 2."""
    assert done.status == 2 and done.out == ""
    *progress, line = done.err.splitlines()
    assert line.startswith("llm42: error: ")
    assert all(text.startswith("llm42: ") for text in progress)
    return line


def test_the_same_server_passes_under_all_conditions(golden, fake, llm42):
    server = fake()
    done = llm42("check", golden, "--url", server.url)
    assert done.status == 0
    assert done.out.count("PASSED") == 3 + 1
    assert "same bits under 5 conditions, verified" in done.out
    assert "fingerprint: the same" in done.out
    assert done.out.splitlines()[-1] == "PASSED: 3 of 3 cases passed"
    kinds = [body.get("stream", False) for _, body in server.requests]
    assert kinds.count(True) == 3  # the streaming condition
    assert len(kinds) > 5 * 3  # there was company


def test_recording_again_gives_the_same_bytes(golden, suite, fake, llm42, tmp_path):
    again = tmp_path / "again.json"
    assert llm42("record", suite, "--url", fake().url, "--out", again).status == 0
    assert again.read_bytes() == golden.read_bytes()


def test_streams_of_increments_are_put_together(golden, fake, llm42):
    assert llm42("check", golden, "--url", fake("--incremental").url).status == 0


@pytest.mark.parametrize("flips", ["load", "stream"])
def test_a_token_that_flips_under_a_condition_fails(golden, fake, llm42, flips):
    """Negative control: the fingerprint is the same, verified is claimed, one token differs."""
    done = llm42("check", golden, "--url", fake("--flips", flips).url)
    assert done.status == 1
    assert "token 5: recorded" in done.out
    assert done.out.splitlines()[-1] == "FAILED: 0 of 3 cases passed"
    calm = "streaming" if flips == "load" else "load"
    quiet = llm42("check", golden, "--url", fake("--flips", flips).url, *ONE)
    assert quiet.status == 0, f"alone nothing flips, {calm} aside"


def test_logprobs_that_wobble_under_load_fail_though_no_token_differs(golden, fake, llm42):
    done = llm42("check", golden, "--url", fake("--wobble").url)
    assert done.status == 1 and "logprobs: recorded" in done.out


def test_other_weights_are_named(golden, fake, llm42):
    done = llm42("check", golden, "--url", fake("--weights", "2").url)
    assert done.status == 1
    assert "the answer changed with the fingerprint (weights changed)" in done.out
    assert "fingerprint: weights changed" in done.out
    assert done.out.splitlines()[-1].startswith("UNKNOWN")


def test_another_version_with_the_same_answers_passes_and_is_named(golden, fake, llm42):
    done = llm42("check", golden, "--url", fake("--torch", "2.15.0").url)
    assert done.status == 0
    assert "fingerprint: torch 2.14.1 -> 2.15.0" in done.out
    assert "under another fingerprint" in done.out


def test_without_receipts_same_bits_are_unknown_and_others_fail(golden, fake, llm42):
    done = llm42("check", golden, "--url", fake("--kind", "stock").url)
    assert done.status == 1
    assert "carry no receipt" in done.out
    assert done.out.splitlines()[-1].startswith("UNKNOWN")
    done = llm42("check", golden, "--url", fake("--kind", "stock", "--flips", "load").url)
    assert done.out.splitlines()[-1].startswith("FAILED")


def test_unverified_answers_are_unknown_and_are_not_recorded(golden, suite, fake, llm42, tmp_path):
    server = fake("--unverified")
    done = llm42("check", golden, "--url", server.url, *ONE)
    assert done.status == 1 and "not every answer is verified" in done.out
    out = tmp_path / "new.json"
    done = llm42("record", suite, "--url", server.url, "--out", out)
    assert "case sea: the server does not verify its answer" in one_line(done)
    assert not out.exists()


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
    assert "answered with 404" in one_line(done) and "write it as messages" in done.err


def test_only_some_cases(golden, fake, llm42):
    done = llm42("check", golden, "--url", fake().url, "--only", "sea", *ONE)
    assert done.status == 0 and done.out.splitlines()[-1] == "PASSED: 1 of 1 cases passed"
    done = llm42("check", golden, "--url", fake().url, "--only", "sea", "--tag", "chat", *ONE)
    assert done.status == 0 and done.out.splitlines()[-1] == "PASSED: 2 of 2 cases passed"


def test_update_records_what_is_reproducible(golden, fake, llm42):
    server = fake("--weights", "2", "--torch", "2.15.0")
    assert llm42("check", golden, "--url", server.url, *ONE).status == 1
    done = llm42("check", golden, "--url", server.url, "--update")
    assert done.status == 0 and "now holds the new answers" in done.out
    assert llm42("check", golden, "--url", server.url).status == 0
    assert llm42("check", golden, "--url", fake().url, *ONE).status == 1
    ids = [case["id"] for case in json.loads(golden.read_text())["cases"]]
    assert ids == ["sea", "greeting", "sampled"]


def test_update_with_chat_streams_keeps_the_ids(golden, fake, llm42):
    before = golden.read_bytes()
    assert llm42("check", golden, "--url", fake().url, "--update").status == 0
    assert golden.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "only", "said"),
    [
        (["--flips", "load"], [], "differs from condition to condition"),
        (["--weights", "2", "--unverified"], [], "is not verified; the golden file is as it was"),
        (["--weights", "2"], ["--only", "sea"], "update all cases, without --only"),
    ],
)
def test_update_refuses_noise(golden, fake, llm42, options, only, said):
    before = golden.read_bytes()
    done = llm42("check", golden, "--url", fake(*options).url, "--update", *only)
    assert done.status == 2
    assert said in done.err.splitlines()[-1]
    assert golden.read_bytes() == before


def test_junit_tells_failures_from_errors(golden, fake, llm42, tmp_path):
    report = tmp_path / "junit.xml"
    llm42("check", golden, "--url", fake("--flips", "load").url, "--junit", report)
    suite = xml.parse(report).getroot().find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "3", "0")
    assert "token 5" in suite.find("testcase/failure").get("message")
    llm42("check", golden, "--url", fake("--weights", "2").url, "--junit", report)
    suite = xml.parse(report).getroot().find("testsuite")
    assert (suite.get("failures"), suite.get("errors")) == ("0", "3")
    values = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert values["fingerprints"] == "weights changed"
    llm42("check", golden, "--url", fake().url, "--junit", report, *ONE)
    suite = xml.parse(report).getroot().find("testsuite")
    assert [len(case) for case in suite.iter("testcase")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sick"], "does not serve"),
        (["--lies"], "do not hash to the fingerprint"),
    ],
)
def test_a_server_of_ours_that_cannot_vouch_is_refused(golden, fake, llm42, options, said):
    assert said in one_line(llm42("check", golden, "--url", fake(*options).url))


def test_mistakes_are_one_line_and_status_2(golden, suite, fake, llm42, tmp_path):
    url, before = fake().url, golden.read_bytes()
    dead = "http://127.0.0.1:9"
    (tmp_path / "half.json").write_bytes(before[: len(before) // 2])
    wrong = [
        (["check", tmp_path / "none.json", "--url", url], "cannot read"),
        (["check", tmp_path / "half.json", "--url", url], "is not JSON, or was cut off"),
        (["check", suite, "--url", url], "is not JSON"),
        (["check", golden, "--url", dead], "no server answers at http://127.0.0.1:9"),
        (["check", golden, "--url", "localhost"], "is no URL"),
        (["check", golden, "--url", url, "--only", "see"], "no case 'see'; there are sea,"),
        (["check", golden, "--url", url, "--conditions", "calm"], "--conditions takes alone"),
        (["check", golden, "--url", url, "--report", "/nowhere/x"], "cannot write /nowhere/x"),
        (["check", golden, "--url", url, "--junit", "/nowhere/x"], "cannot write /nowhere/x"),
        (["record", tmp_path / "none", "--url", url, "--out", golden], "cannot read"),
        (["record", suite, "--url", dead, "--out", golden], "no server answers"),
        (["record", suite, "--url", url, "--out", "/nowhere/x"], "cannot write /nowhere/x"),
    ]
    for arguments, said in wrong:
        assert said in one_line(llm42(*arguments)), arguments
    assert golden.read_bytes() == before
    assert not list(tmp_path.glob(".*.new"))


def test_a_server_that_ends_meanwhile_leaves_the_golden_file(golden, suite, fake, llm42):
    """It is recorded over only when all answers are there."""
    before, server = golden.read_bytes(), fake()
    answer, asked = server.answer, []

    def answer_once(path, body):
        asked.append(path)
        if len(asked) > 1:
            raise ConnectionError("the end")  # closes the connection without a response
        return answer(path, body)

    server.answer = answer_once
    server.handle_error = lambda *_: None
    done = llm42("record", suite, "--url", server.url, "--out", golden)
    assert "stopped answering" in one_line(done)
    assert golden.read_bytes() == before


def test_every_condition_is_named_in_the_help(llm42):
    shown = llm42("check", "--help").out
    assert all(name in shown for name in CONDITIONS)


def test_the_report_is_a_page_of_the_check(golden, fake, llm42, tmp_path):
    report = tmp_path / "report.html"
    llm42("check", golden, "--url", fake("--flips", "load").url, "--report", report)
    page = report.read_text()
    assert "<h1>FAILED</h1>" in page and "The first difference: sea" in page
    assert "&lt;b&gt;is&lt;/b&gt;" in page and "<b>" not in page  # the fake's words
    assert "tokens part at 5" in page and "all 12 tokens agree" in page


def test_what_looks_like_markup_is_printed_as_it_is(fake, llm42, tmp_path):
    suite, golden = tmp_path / "suite.yaml", tmp_path / "golden.json"
    suite.write_text('- {id: "[/red] :cat: [bold]", prompt: x, sampling: {max_tokens: 8}}')
    url = fake().url
    assert llm42("record", suite, "--url", url, "--out", golden).status == 0
    assert "[/red] :cat: [bold]" in llm42("check", golden, "--url", url, *ONE).out
    assert "[/red] :cat:" in llm42("probe", "--url", url, "--suite", suite, "--repeats", 1).out
