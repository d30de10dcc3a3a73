"""States, settings and results are values: nobody changes one that somebody else holds."""

import importlib
import pkgutil
from dataclasses import FrozenInstanceError, is_dataclass

import pytest

from llm42_sglang import core

MODULES = [
    importlib.import_module(f"{core.__name__}.{one.name}")
    for one in pkgutil.iter_modules(core.__path__)
]
VALUES = [
    value
    for module in MODULES
    for value in vars(module).values()
    if is_dataclass(value) and value.__module__ == module.__name__
]


def test_they_are_all_here() -> None:
    names = {value.__name__ for value in VALUES}
    assert names >= {"Config", "Track", "Claim", "Receipt", "PageJob", "Due", "LanePolicy"}


@pytest.mark.parametrize("value", VALUES)
def test_a_value_cannot_be_changed_and_holds_its_fields_only(value: type) -> None:
    one = object.__new__(value)
    with pytest.raises(FrozenInstanceError):
        setattr(one, next(iter(value.__dataclass_fields__)), 1)
    assert not hasattr(one, "__dict__")
