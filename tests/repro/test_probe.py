"""`llm42 probe` on servers that are deterministic, and on ones that are not."""

import json

import pytest
from pytest import approx

from llm42_sglang.repro.output import Output
from llm42_sglang.repro.probe import PromptAnswers, prompts, summary
from llm42_sglang.repro.wire import Answer

SMALL = ["--prompts", "2", "--repeats", "2", "--max-tokens", "12", "--in-flight", "4"]


def probed(command) -> dict:
    assert command.status == 0, command.err
    return json.loads(command.out.splitlines()[-1])


ALIKE = {"unique_outputs": {"prompt-1": 1, "prompt-2": 1}, "prompts_that_diverged": 0}
ALIKE |= {"logprob_spread_max": 0, "answers": 2 * 2 * 2, "compared": ["ids"]}
IN_LOAD = {"prompts_that_diverged": 2, "prompts_that_diverged_alone": 0}
ALWAYS = {"prompts_that_diverged_alone": 2, "compared": ["tokens"]}


@pytest.mark.parametrize(
    ("options", "verdict", "expected"),
    [
        ("--kind stock", "NO DIFFERENCE SEEN", ALIKE),
        # Seen before a token flips.
        ("--kind stock --wobble", "NO DIFFERENCE SEEN", {"logprob_spread_max": approx(0.001)}),
        ("--kind stock --flips load", "NOT DETERMINISTIC", IN_LOAD),
        ("--kind openai --flips always", "NOT DETERMINISTIC", ALWAYS),
    ],
)
def test_what_differs_is_counted_and_placed(fake, llm42, tmp_path, options, verdict, expected):
    out, report = tmp_path / "probe.json", tmp_path / "report.html"
    url = fake(*options.split()).url
    command = llm42("probe", "--url", url, *SMALL, "--out", out, "--report", report)
    result = probed(command)
    assert {name: result[name] for name in expected} == expected
    places = {at for places in result["first_divergence"].values() for at in places}
    assert places == ({5} if verdict == "NOT DETERMINISTIC" else set())
    assert ("token 5" in command.out) is (5 in places)
    assert json.loads(out.read_text()) == result
    assert f"<h1>{verdict}</h1>" in report.read_text()


def test_our_server_is_asked_for_ordinary_chats_unless_told(fake, llm42):
    server = fake()
    probed(llm42("probe", "--url", server.url, *SMALL))
    assert {path for path, _ in server.requests} == {"/v1/chat/completions"}
    assert all(body["deterministic"] is False for _, body in server.requests)
    before = len(server.requests)
    probed(llm42("probe", "--url", server.url, "--deterministic", "--api", "native", *SMALL))
    assert {path for path, _ in server.requests[before:]} == {"/generate"}
    flags = [body["sampling_params"]["custom_params"] for _, body in server.requests[before:]]
    assert flags.count({"deterministic": True}) == 2 * 2 * 2


def test_spreads_end_where_answers_part():
    (case,) = prompts(1, tokens=3, in_chat=False)
    left = Answer(Output(text="", ids=[1, 2, 3]), logprobs=(-1.0, -2.0, -3.0))
    right = Answer(Output(text="", ids=[1, 9, 3]), logprobs=(-1.5, -9.0, -3.0))
    prompt = PromptAnswers(case, (left,), (right,))
    assert prompt.logprob_spreads == [0.5]
    assert prompt.diverged_at == [1]
    assert summary([prompt])["logprob_spread_median"] == 0.5
    text_only = Answer(Output(text="ab"))
    assert PromptAnswers(case, (left,), (text_only,)).logprob_spreads == []
    assert PromptAnswers(case, (text_only,), (text_only,)).unit == "text"
