"""Two JSON values have the same bytes only if they are equal."""

import sys
from array import array
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llm42_sglang.core.encoding import encoded, packed

QUICK = settings(derandomize=True, deadline=None, max_examples=300)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=3) | st.just("\ud83d")
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


def typed(value: Any) -> Any:
    """The value, in which true is not 1."""
    match value:
        case bool():
            return ("bool", value)
        case list():
            return [*map(typed, value)]
        case dict():
            return {name: typed(item) for name, item in value.items()}
    return value


@QUICK
@given(values, values)
def test_equal_values_and_no_others_have_equal_bytes(one: Any, other: Any) -> None:
    assert (encoded(one) == encoded(other)) == (typed(one) == typed(other))


@QUICK
@given(values)
def test_the_order_of_keys_does_not_matter(value: Any) -> None:
    again = {"a": value, "": 1, "b": None}
    assert encoded(again) == encoded(dict(reversed(again.items())))


def test_no_beginning_of_a_value_is_a_value() -> None:
    samples = [None, True, 1, 0.5, "ab", [], [1], {"a": []}, {}]
    for whole in map(encoded, samples):
        others = {encoded(sample) for sample in samples}
        assert not others & {whole[:length] for length in range(len(whole))}


@pytest.mark.parametrize(
    ("value", "letter"),
    [
        (2**63 - 1, b"i"),
        (2**63, b"d"),
        (-(2**63), b"i"),
        (-(2**63) - 1, b"d"),
        (2.0**63, b"d"),
        (-(2.0**63), b"i"),
        (0.5, b"d"),
    ],
)
def test_whole_numbers_of_64_bits_are_integers(value: float, letter: bytes) -> None:
    assert encoded(value)[:1] == letter and len(encoded(value)) == 9


@pytest.mark.parametrize("value", [{1: 2}, {1}, object(), [b"x", 1j]])
def test_what_is_no_json_is_an_error(value: Any) -> None:
    with pytest.raises(TypeError):
        encoded(value)


def test_ids_and_doubles_are_eight_bytes_each() -> None:
    assert packed("q", [1, -1]) == bytes([1, *[0] * 7, *[255] * 8])
    assert packed("d", iter([-0.0])) == bytes([*[0] * 7, 0x80])
    assert packed("d", array("q", [1])) == packed("d", [1.0])
    with pytest.raises(OverflowError):
        packed("q", [2**63])


@pytest.mark.parametrize("numbers", [[1, -1], array("q", [1, -1]), array("i", [1, -1])])
def test_the_lowest_byte_comes_first_on_every_machine(monkeypatch, numbers: Any) -> None:
    """A machine of the other byte order would hold the numbers the other way round, and swap."""
    assert packed("q", numbers) == bytes([1, *[0] * 7, *[255] * 8])
    other = {"little": "big", "big": "little"}[sys.byteorder]
    monkeypatch.setattr(sys, "byteorder", other)
    assert packed("q", numbers) == bytes([*[0] * 7, 1, *[255] * 8])
