"""Verification really works: a fast path that is often wrong changes nothing but the rollbacks."""

import pytest

from tests.engine import client
from tests.engine.conftest import FAULTY, llm42

pytestmark = pytest.mark.server


def test_perturbed_decode_gives_the_unperturbed_answers(reference, servers):
    """Every 7th decode step proposes wrong tokens to every request, beside an ordinary client."""
    few = slice(2, 7)  # a page is written anew for every few tokens: this takes minutes
    url = servers.url(FAULTY)
    with client.ordinary_traffic(url, streams=1):
        answers = client.run(url, in_flight=5, shuffle=7, only=few)
    assert client.ids_of(answers) == client.ids_of(reference[few])
    pages = sum(len(answer.ids) for answer in answers) // 32
    assert client.total(answers, "rollbacks") > pages
    assert client.total(answers, "tokens_rolled_back") > pages
    assert client.metrics(url)["llm42_carrying_steps_total"] > 0


@pytest.mark.parametrize("deterministic", [False, None])
def test_ordinary_answers_are_perturbed(reference, servers, deterministic):
    """Negative control: the fault is real. Here, without --llm42-default, None is ordinary too."""
    answer = client.generate(
        servers.url(FAULTY), client.prompts()[4], deterministic, max_new_tokens=40
    )
    assert answer.ids != reference[4].ids[:40]
    assert "llm42" not in answer.meta


def test_another_process_gives_the_recorded_answers(golden, servers, capsys):
    """Recorded on the base server: a restart, another loop and wrong candidates are no excuse."""
    few = ("--only", "sampled", "--conditions", "load", "--in-flight", 2)  # it takes its time
    status = llm42("check", golden, "--url", servers.url(FAULTY), *few)
    said = capsys.readouterr().out
    assert status == 0, said
    assert "fingerprint: the same" in said
