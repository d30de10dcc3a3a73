"""The hashes of receipts. Clients compare them over months, so their layout must not change."""

import json
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from llm42_sglang.core.receipts import (
    Receipt,
    Segment,
    fingerprint,
    output_digest,
    receipt_digest,
    request_digest,
)

QUICK = settings(derandomize=True, deadline=None, max_examples=200)
ids = st.lists(st.integers(0, 3), max_size=4)
finish = st.tuples(st.sampled_from(["stop", "length"]), st.sampled_from([None, 2, "2"]))
logprobs = st.none() | st.lists(st.sampled_from([-0.5, -0.25]), max_size=2)
answers = st.tuples(ids, finish, logprobs)


def test_a_receipt_is_plain_json_with_the_documented_keys() -> None:
    counts = {"canonical_steps": 5, "verify_passes": 3, "rollbacks": 1, "tokens_rolled_back": 9}
    drawn = {"temperature": 0.7, "top_k": -1}
    segments = (Segment("e" * 32, 2), Segment("f" * 32, 1))
    digests = {"request_digest": "a" * 64, "output_digest": "b" * 64}
    receipt = Receipt(
        True, "f" * 32, segments, **digests, seed=7, sampling=drawn, nonce="once", **counts
    )
    told = json.loads(json.dumps(receipt.as_dict()))
    assert told.pop("receipt_digest") == receipt_digest(told)
    assert told == {
        "version": 2,
        "verified": True,
        "fingerprint": "f" * 32,
        "segments": [
            {"fingerprint": "e" * 32, "tokens": 2},
            {"fingerprint": "f" * 32, "tokens": 1},
        ],
        **digests,
        "seed": 7,
        "sampling": {"temperature": 0.7, "top_k": -1},
        "nonce": "once",
        **counts,
    }


def test_the_layout_of_the_fingerprint_is_frozen() -> None:
    # A stored receipt must stay comparable; for the other hashes see test_vectors.py.
    assert fingerprint({"page": 32, "dtype": "bfloat16"}) == "ada1ed33ad855176f59cf940b075b26a"


def test_the_fingerprint_depends_on_every_fact_and_not_on_their_order() -> None:
    facts = {"page": 32, "group": 8, "versions": {"torch": "2", "sglang": "0.5.23"}}
    facts |= {"weights": "0" * 32, "weight": 1}  # beside "weight_version", in the alphabet
    assert fingerprint(facts) == fingerprint(dict(reversed(facts.items())))
    for name in facts:
        assert fingerprint({**facts, name: "other"}) != fingerprint(facts)
        assert fingerprint({key: facts[key] for key in facts if key != name}) != fingerprint(facts)


def test_what_a_trainer_calls_the_weights_does_not_count() -> None:
    assert fingerprint({"page": 32, "weight_version": "7"}) == fingerprint({"page": 32})


@QUICK
@given(answers, answers)
def test_two_answers_never_have_one_digest(one: Any, other: Any) -> None:
    (ids, end, values), (other_ids, other_end, other_values) = one, other
    same = output_digest(ids, *end, values) == output_digest(other_ids, *other_end, other_values)
    assert same == (one == other)


@QUICK
@given(ids, ids, st.sampled_from([None, 7]), st.sampled_from([None, 7]))
def test_prompt_and_seed_are_in_the_digest_of_a_request(
    prompt: list[int], other: list[int], seed: int | None, another: int | None
) -> None:
    sampling = {"temperature": 0.7}
    same = request_digest(prompt, sampling, seed) == request_digest(other, sampling, another)
    assert same == ((prompt, seed) == (other, another))


def test_a_digest_covers_the_bits_of_logprobs() -> None:
    scored = output_digest([3], "length", None, [-0.5])
    others = [output_digest([3], "length", None, other) for other in (None, [], [-0.5000001])]
    assert scored not in others and len({*others}) == 3
    assert scored == output_digest((3,), "length", None, iter((-0.5,)))


def test_what_is_not_hashed_is_the_hash_itself_and_the_signature() -> None:
    receipt = {"version": 2, "nonce": None, "sampling": {"stop": ["\ud83d"], "top_p": 1.0}}
    digest = receipt_digest(receipt)
    signed = receipt | {"receipt_digest": digest, "key": "k", "signature": "s"}
    assert receipt_digest(signed) == digest
    assert receipt_digest(receipt | {"another": None}) != digest
    assert receipt_digest(receipt | {"sampling": receipt["sampling"] | {"top_p": 1}}) == digest
