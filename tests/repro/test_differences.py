"""What two fingerprints differ in is said by name."""

from llm42_sglang.repro.differences import Fingerprint, changes, explain

OLD = {
    "weights": "a" * 64,
    "torch": "2.14.1",
    "model": {"rms_norm_eps": 1e-05, "name": "x"},
    "gone": 1,
    "empty": {},
}
NEW = {
    "weights": "b" * 64,
    "torch": "2.15.0",
    "model": {"rms_norm_eps": 0.5, "name": "x"},
    "here": "y",
    "empty": {},
}


def test_every_change_is_named_and_nothing_else():
    assert list(map(str, changes(OLD, NEW))) == [
        "gone is gone: 1",
        "here is new: y",
        "model.rms_norm_eps 1e-05 -> 0.5",
        "torch 2.14.1 -> 2.15.0",
        "weights changed",
    ]
    assert changes(OLD, dict(OLD)) == []


def test_values_that_look_alike_are_told_apart_and_long_ones_cut():
    assert [str(one) for one in changes({"a": [1]}, {"a": [2]})] == ["a [1] -> [2]"]
    assert [str(one) for one in changes({"a": None}, {"a": "None"})] == ["a None -> None"]
    (change,) = changes({"a": "x" * 500}, {"a": "y"})
    assert len(str(change)) < 100


def test_explain():
    old, new = Fingerprint(digest="1", facts=OLD), Fingerprint(digest="2", facts=NEW)
    assert "weights changed" in explain(old, new)
    assert explain(None, new) == "nothing was recorded"
    assert explain(old, None) == "the endpoint has no fingerprint"
    assert explain(old, old) == "the same"
