"""What two fingerprints differ in is said by name."""

import pytest

from llm42_sglang.repro.differences import Fingerprint, changes, explain

OLD = {"weights": "a" * 64, "torch": "2.14.1", "model": {"eps": 1e-05, "name": "x"}, "gone": 1}
NEW = {"weights": "b" * 64, "torch": "2.15.0", "model": {"eps": 0.5, "name": "x"}, "here": "y"}
BEFORE, AFTER = Fingerprint(digest="1", facts=OLD), Fingerprint(digest="2", facts=NEW)
ALL = "gone is gone: 1, here is new: y, model.eps 1e-05 -> 0.5, torch 2.14.1 -> 2.15.0"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (BEFORE, AFTER, f"{ALL}, weights changed"),
        (BEFORE, BEFORE, "the same"),
        (None, AFTER, "nothing was recorded"),
        (BEFORE, None, "the endpoint has no fingerprint"),
    ],
)
def test_every_change_is_named_and_nothing_else(before, after, said):
    assert explain(before, after) == said


def test_values_that_look_alike_are_told_apart_and_long_ones_cut():
    assert [str(one) for one in changes({"a": [1]}, {"a": [2]})] == ["a [1] -> [2]"]
    assert [str(one) for one in changes({"a": None}, {"a": "None"})] == ["a None -> None"]
    assert changes({"empty": {}}, {"empty": {}}) == []
    (change,) = changes({"a": "x" * 500}, {"a": "y"})
    assert len(str(change)) < 100
