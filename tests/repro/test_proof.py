"""Whatever is changed in a saved exchange, `llm42 replay` finds it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings

from llm42_sglang.cli import replay as command
from llm42_sglang.core.receipts import output_digest, receipt_digest
from llm42_sglang.engine.signing import Signer
from tests.repro.conftest import status_of
from tests.repro.fake_endpoint import FakeEndpoint, native_event

KEY, OTHER = (
    Signer(Ed25519PrivateKey.from_private_bytes(bytes([n] * 32))).public["public_key"]
    for n in (7, 8)
)
SAMPLING = {"temperature": 0.8, "sampling_seed": 7, "max_new_tokens": 6, "stop": ["\n\n"]}
SAMPLING |= {"custom_params": {"deterministic": True}, "nonce": "once"}
REQUEST = {
    "input_ids": [65, 66, 67],
    "sampling_params": SAMPLING,
    "return_logprob": True,
    "top_logprobs_num": 2,
}
# Of an answer, what is not: how long it took, what a cache had, and the texts of single tokens.
NOT_THE_ANSWER = ("completion_tokens", "cached_tokens")

Leaves = dict[tuple, Any]


@pytest.fixture(scope="module")
def exchange(tmp_path_factory) -> Iterator[tuple[str, dict, Path]]:
    """The URL of a server that signs, an exchange with it, and a file to write it to."""
    with FakeEndpoint("--signs", "7") as server:
        scored, end = server.answer("/generate", REQUEST)
        response = native_event(REQUEST, scored, len(scored), end)
        saved = json.loads(json.dumps({"request": REQUEST, "response": response}))
        yield server.url, saved, tmp_path_factory.mktemp("proof") / "exchange.json"


def leaves(value: Any, place: tuple = ()) -> Leaves:
    """The values in a JSON value that are no lists and no objects, by their place."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for name, item in items for k, v in leaves(item, (*place, name)).items()}
    return {place: value}


def meant(exchange: Any, original: Leaves) -> Leaves:
    """What an exchange says in the places of another one; type and value of each."""
    found = leaves(exchange)
    return {
        place: (type(found[place]), found[place])
        for place in original
        if place in found
        and place[-1] not in NOT_THE_ANSWER
        and not ("output_token_logprobs" in place and place[-1] == 2)
    }


def verdict(exchange, text: str, key: str = KEY) -> int:
    """The status of `llm42 replay` of a file with this text: 0 if it is authentic."""
    url, _, path = exchange
    path.write_text(text)
    return status_of("replay", path, "--url", url, "--public-key", key)


@settings(
    max_examples=250,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(at=st.floats(0, 1, exclude_max=True), flipped=st.integers(1, 127))
def test_every_flipped_byte_that_matters_is_found(exchange, at: float, flipped: int):
    whole = json.dumps(exchange[1])
    index = int(at * len(whole))
    changed = whole[:index] + chr(ord(whole[index]) ^ flipped) + whole[index + 1 :]
    original = leaves(exchange[1])
    try:
        same = meant(json.loads(changed), original) == meant(exchange[1], original)
    except (ValueError, RecursionError):
        same = False  # no JSON
    if not same:
        assert verdict(exchange, changed) != 0, changed


def in_place(exchange: dict, place: tuple, value: Any) -> str:
    """The exchange's text, with another value in a place."""
    copy = json.loads(json.dumps(exchange))
    holder = copy
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = value
    return json.dumps(copy)


def another(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return 1 if value is None else not value
    return f"{value}x" if isinstance(value, str) else value + 1


def test_every_value_that_matters_is_looked_at(exchange):
    """One after the other, and the honest exchange is authentic."""
    saved = exchange[1]
    assert verdict(exchange, json.dumps(saved)) == 0
    places = meant(saved, leaves(saved))
    assert len(places) > 60
    for place, (_, value) in places.items():
        assert verdict(exchange, in_place(saved, place, another(value))) != 0, place


RECEIPT = ("response", "meta_info", "llm42")


def test_negative_control_without_hashes_some_changes_are_not_found(exchange, monkeypatch):
    monkeypatch.setattr(command, "forgery", lambda *_: None)
    receipt = exchange[1]["response"]["meta_info"]["llm42"]
    for name in ("verify_passes", "rollbacks", "signature", "receipt_digest"):
        text = in_place(exchange[1], (*RECEIPT, name), another(receipt[name]))
        assert verdict(exchange, text) == 0, name


def test_hashes_that_were_made_to_fit_are_not_signed(exchange, capsys):
    """Nobody but the server can change a counter: replay could not see it."""
    text = in_place(exchange[1], (*RECEIPT, "verify_passes"), 99)
    changed = json.loads(text)
    receipt = changed["response"]["meta_info"]["llm42"]
    receipt["receipt_digest"] = receipt_digest(receipt)
    assert verdict(exchange, json.dumps(changed)) == 1
    assert "is not signed with key" in capsys.readouterr().out
    for name in ("key", "signature"):
        del receipt[name]
    assert verdict(exchange, json.dumps(changed)) == 1
    assert "has no key and no signature" in capsys.readouterr().out


def test_the_key_is_that_of_the_server_unless_one_is_named(exchange, llm42):
    url, saved, path = exchange
    path.write_text(json.dumps(saved))
    assert llm42("replay", path, "--url", url).status == 0
    assert (
        "is not signed with key" in llm42("replay", path, "--url", url, "--public-key", OTHER).out
    )
    assert "is no public key" in llm42("replay", path, "--url", url, "--public-key", "x").mistake
    path.write_text(in_place(saved, (*RECEIPT, "signature"), "A" * 86 + "=="))
    assert llm42("replay", path, "--url", url).out.startswith("NOT AUTHENTIC: ")
    with FakeEndpoint("--signs", "8") as other:
        path.write_text(json.dumps(saved))
        said = llm42("replay", path, "--url", other.url)
        assert said.status == 1 and said.out.startswith("UNKNOWN: signed with key")
        assert llm42("replay", path, "--url", other.url, "--public-key", KEY).status == 0
    with FakeEndpoint() as unsigned:
        assert llm42("replay", path, "--url", unsigned.url).status == 0


def test_an_answer_with_hashes_that_fit_is_executed_all_the_same(exchange, llm42):
    """Without a signature anybody can make hashes fit: then the bits decide."""
    url, saved, path = exchange
    forged = json.loads(json.dumps(saved))
    response, meta = forged["response"], forged["response"]["meta_info"]
    response["output_ids"][2] += 1
    meta["output_token_logprobs"][2][1] += 1
    values = [value for value, *_ in meta["output_token_logprobs"]]
    receipt = {n: v for n, v in meta["llm42"].items() if n not in ("key", "signature")}
    receipt["output_digest"] = output_digest(response["output_ids"], "length", None, values)
    meta["llm42"] = receipt | {"receipt_digest": receipt_digest(receipt)}
    path.write_text(json.dumps(forged))
    assert "token 2" in llm42("replay", path, "--url", url).out


def test_receipts_of_version_1_are_replayed_as_ever(fake, llm42, suite, tmp_path):
    old, new, folder = fake("--receipts", "1").url, fake().url, tmp_path / "old"
    out = ("--out", tmp_path / "old.json", "--receipts", folder)
    assert llm42("record", suite, "--url", old, *out).status == 0
    for path in sorted(folder.iterdir()):
        saved = json.loads(path.read_text())
        assert "receipt_digest" not in json.dumps(saved)
        assert llm42("replay", path, "--url", old).status == 0
        said = llm42("replay", path, "--url", new)
        assert said.status == 1 and "is of version 1" in said.out
        place = saved["response"].get("meta_info", saved["response"])
        place["llm42"]["output_digest"] = "0" * 32
        path.write_text(json.dumps(saved))
        assert llm42("replay", path, "--url", old).out.startswith("NOT AUTHENTIC: ")
