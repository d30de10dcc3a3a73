"""The determinism matrix in small: requests alone, in flight, warm and cold, bit for bit."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.engine import client

PROMPTS = (4, 9)  # of client.prompts(): 33 and 333 tokens
NEW_TOKENS = 34  # crosses a page's end, whatever the prompt
SAMPLED = {"temperature": 0.9, "top_k": 50, "top_p": 0.95, "sampling_seed": 7}


@dataclass(frozen=True)
class Bits:
    """All that must not change: ids, logprobs, and the alternatives' logprobs."""

    ids: tuple[int, ...]
    logprobs: tuple
    top_logprobs: tuple

    @classmethod
    def of(cls, answer: client.Answer) -> "Bits":
        meta = answer.meta
        tops = tuple(tuple(map(tuple, row)) for row in meta["output_top_logprobs"])
        return cls(answer.ids, tuple(map(tuple, meta["output_token_logprobs"])), tops)


def requests(deterministic: bool = True, **fields) -> list[dict]:
    """Every prompt greedy and sampled; `fields` go into each request's body."""
    extra = {"return_logprob": True, "top_logprobs_num": 2, **fields}
    return [
        client.body(client.prompts()[i], deterministic, max_new_tokens=NEW_TOKENS, **how) | extra
        for i in PROMPTS
        for how in ({}, SAMPLED)
    ]


def bits_of(answers: Sequence[client.Answer]) -> list[Bits]:
    """What must not change, answer by answer."""
    return [Bits.of(answer) for answer in answers]


def run(url: str) -> list[client.Answer]:
    """Assert that load, cache and order do not show; returns the answers given alone.

    The server's decode steps must be perturbed (LLM42_FAULT=decode): that is the negative control.
    Without verification they would change the answers, and ordinary ones they do change.
    """
    alone = client.ask_all(url, requests(), in_flight=1)
    warm = client.ask_all(url, requests(), in_flight=6, shuffle=1)
    client.flush(url)
    with client.ordinary_traffic(url, streams=2):
        cold = client.ask_all(url, requests(), in_flight=5, shuffle=2)
    assert bits_of(warm) == bits_of(alone)
    assert bits_of(cold) == bits_of(alone)
    assert sum(answer.meta["cached_tokens"] for answer in warm) > 0
    everything = [*alone, *warm, *cold]
    assert all(answer.meta["llm42"]["verified"] for answer in everything)
    assert {len(answer.ids) for answer in everything} == {NEW_TOKENS}
    assert client.total(everything, "rollbacks") > len(everything)
    assert all(len(set(answer.ids)) > 2 for answer in alone)  # or nothing could have gone wrong
    ordinary = client.ask_all(url, requests(deterministic=False)[:1], in_flight=1)
    assert ordinary[0].ids != alone[0].ids
    return alone
