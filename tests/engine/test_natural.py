"""The promise, with the real model and by default: what load does by itself, and what we undo.

Nothing is injected here. `scripts/quickstart` shows the same to a person.
"""

import pytest

from llm42_sglang.core.claim import refutation
from llm42_sglang.repro.claims import verify_one
from llm42_sglang.repro.conditions import CONDITIONS, observe, question
from llm42_sglang.repro.endpoint import connect
from llm42_sglang.repro.exchange import SavedExchange
from llm42_sglang.repro.judge import CheckVerdict
from llm42_sglang.repro.output import mismatch
from llm42_sglang.repro.prompts import PROMPTS
from llm42_sglang.repro.suite import Sampling
from llm42_sglang.repro.wire import Answer
from tests.engine import client

pytestmark = pytest.mark.server("embedded")

SAMPLING = Sampling(max_tokens=48, ignore_eos=True)
IN_FLIGHT = 12
TURN = 24  # tokens of an answer in a conversation


def answers(url: str, deterministic: bool, *conditions: str) -> list[list[Answer]]:
    """Every prompt's answer, by condition."""
    cases = [question(prompt, prompt, True, SAMPLING) for prompt in PROMPTS]
    with connect(url) as endpoint:
        return [
            [
                seen.answer
                for seen in observe(
                    *(endpoint, cases, CONDITIONS[name], IN_FLIGHT), deterministic=deterministic
                )
            ]
            for name in conditions
        ]


def test_ordinary_answers_diverge_and_deterministic_ones_do_not(url):
    alone, *others = answers(url, True, "alone", "load", "shuffled")  # the last with a warm cache
    for got in others:
        assert not any(map(differs, alone, got))
    everything = [answer for got in (alone, *others) for answer in got]
    assert all(answer.output.verified for answer in everything)
    # What this machine's own rounding made the fast path propose was caught and undone.
    assert sum(answer.counter("rollbacks") for answer in everything) > 0
    # The negative control: the same script, without the feature.
    ordinary = answers(url, False, "alone", "load")
    assert any(map(differs, *ordinary))
    noise_is_found(url, alone, ordinary)


def noise_is_found(url: str, right: list[Answer], noisy: list[list[Answer]]) -> None:
    """Ordinary answers are claimed: those that diverge are not authentic, at that very token."""
    found = set()
    with connect(url) as endpoint:
        for answer, other in ((a, b) for got in noisy for a, b in zip(right, got, strict=True)):
            first = refutation(other.output.ids, answer.output.ids)
            exchange = SavedExchange(**other.exchange)
            result = verify_one(endpoint, exchange, None, "an ordinary answer")
            assert (first and first.token) == (result.refuted and result.refuted["token"])
            if first is None:  # the logprobs differ a little; without them nobody vouches for it
                unknown = result.verdict is CheckVerdict.UNKNOWN
                assert unknown or result.reason.startswith("logprobs"), result.reason
            found.add(first is None)
    assert found == {True, False}


def differs(one: Answer, other: Answer) -> bool:
    """Whether the texts or tokens do; logprobs of ordinary answers always differ a little."""
    found = mismatch(one.output, other.output)
    return found is not None and found.what != "logprobs"


def conversation(url: str, deterministic: bool) -> list[client.Answer]:
    """Three turns, each of which sends everything that was said before."""
    known = list(client.prompts()[6])
    answers = []
    for turn in range(3):
        known += client.prompts()[7][turn * 20 : turn * 20 + 20]
        answers.append(client.generate(url, known, deterministic, max_new_tokens=TURN))
        known += answers[-1].ids
    return answers


def test_a_conversation_uses_the_prefix_cache_and_no_bit_changes(url):
    client.flush(url)
    warm = conversation(url, deterministic=True)
    client.flush(url)
    ordinary = conversation(url, deterministic=False)
    cached = [[a.meta["cached_tokens"] for a in answers] for answers in (warm, ordinary)]
    assert cached[0] == cached[1] and all(count > 0 for count in cached[0][1:])
    known = list(client.prompts()[6])
    for turn, answer in enumerate(warm):
        known += client.prompts()[7][turn * 20 : turn * 20 + 20]
        client.flush(url)
        cold = client.generate(url, known, max_new_tokens=TURN)
        assert cold.meta["cached_tokens"] == 0
        assert cold.ids == answer.ids
        known += answer.ids
