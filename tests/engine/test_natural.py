"""The promise, with the real model, defaults, and the rounding differences that load makes by itself.

Nothing is injected here: it is the demonstration of `scripts/quickstart`.
"""

import pytest

from tests.engine import client

pytestmark = pytest.mark.server("embedded")


def test_ordinary_answers_diverge_and_deterministic_ones_do_not(url):
    from llm42_sglang.cli.demo import compare

    ordinary = compare(url, deterministic=False, progress=lambda text: None)
    deterministic = compare(url, deterministic=True, progress=lambda text: None)
    # The negative control: the same script, without the feature.
    assert any(pair.diverged_at is not None for pair in ordinary)
    assert all(pair.diverged_at is None for pair in deterministic)
    assert all(pair.verified for pair in deterministic)
    # What this machine's own rounding made the fast path propose was caught and undone.
    assert sum(pair.total("rollbacks") for pair in deterministic) > 0


def conversation(url: str, deterministic: bool) -> list[client.Answer]:
    """Three turns, each of which sends everything that was said before."""
    known = list(client.prompts()[6])
    answers = []
    for turn in range(3):
        known += client.prompts()[7][turn * 20 : turn * 20 + 20]
        answers.append(client.generate(url, known, deterministic))
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
        cold = client.generate(url, known)
        assert cold.meta["cached_tokens"] == 0
        assert cold.ids == answer.ids
        known += answer.ids
