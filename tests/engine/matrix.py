"""The determinism matrix of `repro.conditions`, on tiny models."""

from llm42_sglang.repro.conditions import CONDITIONS, observe
from llm42_sglang.repro.endpoint import Endpoint, connect
from llm42_sglang.repro.output import mismatch
from llm42_sglang.repro.suite import Case, Sampling
from llm42_sglang.repro.wire import Answer
from tests.engine import client

NEW_TOKENS = 34  # crosses two ends of pages of 16 tokens
IN_FLIGHT = 6
SAMPLED = {"temperature": 0.9, "top_k": 50, "top_p": 0.95, "seed": 7}
CASES = [
    Case(
        id=f"{len(client.prompts()[i])} tokens, {name}",
        input_ids=client.prompts()[i],
        sampling=Sampling(max_tokens=NEW_TOKENS, ignore_eos=True, top_logprobs=2, **how),
    )
    for i in (3, 8)
    for name, how in (("greedy", {}), ("sampled", SAMPLED))
]


def answers(endpoint: Endpoint, condition: str) -> list[Answer]:
    """Every case's answer under one condition."""
    seen = observe(endpoint, CASES, CONDITIONS[condition], IN_FLIGHT)
    return [observation.answer for observation in seen]


def require_equal(expected: list[Answer], got: list[Answer]) -> None:
    """Ids, text, logprobs and the alternatives' logprobs, bit for bit."""
    differences = [
        mismatch(one.output, other.output) for one, other in zip(expected, got, strict=True)
    ]
    assert not any(differences), differences


def run(url: str, perturbed: bool) -> list[Answer]:
    """Assert that load, cache, order and streaming do not show; returns the answers given alone.

    perturbed: the server's decode steps are, and all is verified (`servers.DECODE`). That is the
    negative control: ordinary answers change. Where they are not, steps of several requests are
    canonical; what is asked alone is verified.
    """
    with connect(url) as endpoint:
        alone = answers(endpoint, "alone")
        everything = list(alone)
        for condition in ("load", "shuffled", "streaming"):  # the cache is warm in the last two
            everything += (got := answers(endpoint, condition))
            require_equal(alone, got)
        ordinary = endpoint.ask(CASES[0], False)
    assert all(answer.output.verified for answer in everything)
    assert {len(answer.output.ids) for answer in everything} == {NEW_TOKENS}
    assert all(len(set(answer.output.ids)) > 2 for answer in alone)  # or nothing could go wrong
    rollbacks, steps = (
        sum(answer.counter(name) for answer in everything)
        for name in ("rollbacks", "canonical_steps")
    )
    if perturbed:
        assert rollbacks > len(everything) and not steps
        assert mismatch(alone[0].output, ordinary.output)
    else:
        assert steps > len(everything)
    return alone
