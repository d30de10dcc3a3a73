"""Verification really works: a fast path that is often wrong changes nothing but the rollbacks.

Every 7th decode step of the server proposes wrong tokens; its loop does not overlap, and requests
draft from their own text. The answers must be those of the undisturbed server, asked one by one.
"""

import json
import re

import pytest

from tests.engine import client, constrained
from tests.engine.conftest import llm42

pytestmark = pytest.mark.server("faulty")


def test_the_answers_are_the_undisturbed_ones(url, reference):
    with client.ordinary_traffic(url, streams=1):
        answers = client.run(url, in_flight=6, shuffle=7)
    assert client.bits_of(answers) == client.bits_of(reference)
    pages = sum(len(answer.ids) for answer in answers) // client.T
    assert client.total(answers, "rollbacks") > pages / 2
    assert client.total(answers, "tokens_rolled_back") > pages / 2
    assert client.total(answers, "canonical_steps") == 0


@pytest.mark.parametrize("deterministic", [False, None])
def test_ordinary_answers_are_perturbed(url, reference, deterministic):
    """Negative control: the fault is real. Here, without --llm42-default, None is ordinary too."""
    answer = client.generate(url, client.prompts()[4], deterministic)
    assert answer.ids != reference[4].ids
    assert "llm42" not in answer.meta


def test_constrained_answers_are_the_undisturbed_ones(url, recorded):
    """Grammars followed wrong candidates, stops were found in them: nothing of it remains."""
    requests = constrained.requests(recorded.reference)
    answers = client.ask_all(url, requests, in_flight=12, shuffle=6)
    for answer, expected in zip(answers, recorded.constrained, strict=True):
        assert (answer.ids, answer.text) == (expected.ids, expected.text)
        assert answer.meta["finish_reason"] == expected.meta["finish_reason"]
    assert client.total(answers, "rollbacks") > len(answers)


def test_drafts_change_no_bit_and_are_right_at_times(url, recorded):
    """The recorded answers are of a server without them. Wrong guesses are rolled back."""
    before, requests = drafts(url), constrained.requests(recorded.reference)
    for name, request, expected in zip(
        constrained.OPTIONS, requests, recorded.constrained, strict=False
    ):
        if name in ("regex", "one token", "two tokens", "verse"):
            answer = client.ask(url, request)
            assert (answer.ids, answer.text) == (expected.ids, expected.text)
    drafted, accepted = (now - then for now, then in zip(drafts(url), before, strict=True))
    assert drafted > accepted > 10


def drafts(url: str) -> tuple[float, float]:
    """The tokens that the server has drafted, and those of them that were right."""
    page = client.get(url, "/metrics").text
    names = ("llm42_drafted_tokens_total", "llm42_accepted_tokens_total")
    return tuple(float(re.search(rf"^{name}{{.*}} (\S+)$", page, re.M)[1]) for name in names)


def test_grammars_are_obeyed(recorded):
    answers = dict(zip(constrained.OPTIONS, recorded.constrained, strict=False))
    for name in ("json", "json sampled"):
        parsed = json.loads(answers[name].text)
        assert set(parsed) == set(constrained.SCHEMA["required"])
        assert parsed["kind"] in ("town", "village")
    assert re.fullmatch(f"({constrained.DATE} ){{4}}", answers["regex"].text)
    # The length limit cuts it anywhere.
    assert re.fullmatch("((yes|no), )*(yes|no|ye|y|n)?,?", answers["ebnf"].text)
    assert re.fullmatch("[a-z ,.]{0,90}", answers["all"].text)
    assert len(answers["min_new_tokens"].ids) >= 50


def test_stop_strings_end_the_reference_text(recorded):
    answers = recorded.constrained[len(constrained.OPTIONS) :]
    for (stop, request, whole), answer in zip(
        constrained.stops(recorded.reference), answers, strict=True
    ):
        assert answer.meta["finish_reason"]["type"] == "stop"
        assert answer.ids == whole.ids[: len(answer.ids)] and len(answer.ids) < len(whole.ids)
        if "stop" in request["sampling_params"]:  # SGLang does not trim what a pattern matched
            assert (stop in answer.text) == request["sampling_params"].get("no_stop_trim", False)


def test_a_stop_string_that_only_a_wrong_candidate_holds(url, reference):
    """The perturbed candidate's text is a stop string: suspected, verified, rolled back."""
    prompt, expected, stop = next(
        (prompt, right, stop)
        for prompt, right in zip(client.prompts()[3:], reference[3:], strict=True)
        if (stop := _wrong_text(url, prompt, right)) and stop not in client.text_of(right.ids)
    )
    answer = client.generate(url, prompt, stop=[stop])
    assert answer.ids == expected.ids
    assert answer.meta["finish_reason"]["type"] == "length"


def _wrong_text(url: str, prompt, right: client.Answer) -> str:
    """The text of the first token that the perturbed fast path gets wrong."""
    perturbed = client.generate(url, prompt, deterministic=False, max_new_tokens=20)
    wrong = next(a for a, b in zip(perturbed.ids, right.ids, strict=False) if a != b)
    return client.text_of([wrong])


def test_another_process_gives_the_recorded_answers(url, golden, capsys):
    """A restart, another loop and wrong candidates are no excuse."""
    few = ("--only", "sampled", "--conditions", "load", "--in-flight", 2)
    status = llm42("check", golden, "--url", url, *few)
    said = capsys.readouterr().out
    assert status == 0, said
    assert "fingerprint: the same" in said
