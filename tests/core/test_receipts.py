"""The hashes of receipts. Clients compare them over months, so their layout must not change."""

import json

import hypothesis.strategies as st
from hypothesis import given, settings

from llm42_sglang.core.receipts import Receipt, Segment, fingerprint, output_digest

QUICK = settings(derandomize=True, deadline=None, max_examples=100)
ids = st.lists(st.integers(0, 3), max_size=4)


def test_a_receipt_is_plain_json_with_the_documented_keys() -> None:
    counts = {"canonical_steps": 5, "verify_passes": 3, "rollbacks": 1, "tokens_rolled_back": 9}
    drawn = {"temperature": 0.7, "top_k": -1}
    segments = (Segment("e" * 32, 3), Segment("f" * 32, 8))
    receipt = Receipt(True, "f" * 32, segments, "d" * 32, seed=7, sampling=drawn, **counts)
    assert json.loads(json.dumps(receipt.as_dict())) == {
        "verified": True,
        "fingerprint": "f" * 32,
        "segments": [
            {"fingerprint": "e" * 32, "tokens": 3},
            {"fingerprint": "f" * 32, "tokens": 8},
        ],
        "output_digest": "d" * 32,
        "seed": 7,
        "sampling": {"temperature": 0.7, "top_k": -1},
        "canonical_steps": 5,
        "verify_passes": 3,
        "rollbacks": 1,
        "tokens_rolled_back": 9,
    }


def test_the_layout_of_the_hashes_is_frozen() -> None:
    # A stored receipt must stay comparable: changing one of these breaks every replay.
    assert fingerprint({"page": 32, "dtype": "bfloat16"}) == "ada1ed33ad855176f59cf940b075b26a"
    assert output_digest([1, 2], [3]) == "be3cb7e04dcce365974b9116333f0587"


def test_the_fingerprint_depends_on_every_fact_and_not_on_their_order() -> None:
    facts = {"page": 32, "group": 8, "versions": {"torch": "2", "sglang": "0.5.23"}}
    assert fingerprint(facts) == fingerprint(dict(reversed(facts.items())))
    for name in facts:
        assert fingerprint({**facts, name: "other"}) != fingerprint(facts)
        assert fingerprint({key: facts[key] for key in facts if key != name}) != fingerprint(facts)


@QUICK
@given(ids, ids, ids, ids)
def test_digests_tell_prompt_from_output(
    prompt: list[int], output: list[int], other_prompt: list[int], other_output: list[int]
) -> None:
    same = (prompt, output) == (other_prompt, other_output)
    assert (output_digest(prompt, output) == output_digest(other_prompt, other_output)) == same


def test_a_digest_covers_the_bits_of_logprobs() -> None:
    scored = output_digest([1, 2], [3], [-0.5])
    assert scored not in (output_digest([1, 2], [3]), output_digest([1, 2], [3], [-0.5000001]))
    assert scored == output_digest([1, 2], [3], (-0.5,))


def test_a_digest_takes_any_iterable_of_ids() -> None:
    assert output_digest(iter([1, 2]), (3,)) == output_digest((1, 2), [3])
    assert output_digest([], []) != output_digest([0], [])
