"""The seams table and the code say the same: what is hooked has a row, what has a row is used."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sglang.srt.managers.scheduler import Scheduler

import llm42_sglang
from llm42_sglang.core.config import Config
from llm42_sglang.engine import plugin, seams, settings

PACKAGE = Path(llm42_sglang.__file__).parent
TABLE = PACKAGE / "engine" / "seams" / "table.py"
ROWS = (*seams.SEAMS, *seams.GPU_SEAMS)
# Our own, comments and docstrings with them, the table left out.
SOURCES = {path: path.read_text() for path in PACKAGE.rglob("*.py") if path != TABLE}
NOT_SGLANGS = {"begin_forward"}  # FlashInfer's: see tests/engine/backends/test_flashinfer.py


def wrapped_in(texts: Iterable[str]) -> set[str]:
    """Attributes replaced by a partial that calls what they were; nothing is imported."""
    return {
        target.attr
        for text in texts
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Assign)
        and isinstance(target := node.targets[0], ast.Attribute)
        and ast.unparse(node.value).startswith("partial(")
        and ast.unparse(target) in map(ast.unparse, node.value.args)
    }


def classes() -> Iterator[type]:
    """Those of the layers that may import SGLang."""
    for path in SOURCES:
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if name.split(".")[1] in ("engine", "platform"):
            module = importlib.import_module(name.removesuffix(".__init__"))
            found = filter(inspect.isclass, vars(module).values())
            yield from (each for each in found if each.__module__ == module.__name__)


def overridden(cls: type) -> set[str]:
    """SGLang's methods that a class of ours stands in for, as dotted paths."""
    owners = {
        name: next((base for base in cls.__mro__[1:] if name in vars(base)), object)
        for name, mine in vars(cls).items()
        if not name.startswith("__") and (inspect.isroutine(mine) or isinstance(mine, property))
    }
    paths = {f"{base.__module__}.{base.__qualname__}.{name}" for name, base in owners.items()}
    return {path for path in paths if path.startswith("sglang.")}


@pytest.fixture
def hooked(monkeypatch) -> set[str]:
    """Every target that a serving process registers."""
    targets = set()
    monkeypatch.setenv(settings.VARIABLE, Config().to_json())
    monkeypatch.setenv("LLM42_FAULT", "decode")
    monkeypatch.setattr(plugin, "hook", lambda target, *how: targets.add(target))
    plugin.activate()
    return targets


def without_row(paths: Iterable[str]) -> set[str]:
    return set(paths) - {seam.path for seam in ROWS}


def names_without_row(names: Iterable[str]) -> set[str]:
    return set(names) - {seam.path.rpartition(".")[2] for seam in ROWS} - NOT_SGLANGS


def unused(rows: Iterable[seams.Seam], targets: set[str]) -> set[str]:
    """Rows of what is neither hooked nor named, be it in a comment where the code relies on it."""
    words = {word for text in SOURCES.values() for word in re.findall(r"\w+", text)}
    paths = {seam.path for seam in rows} - targets
    return {path for path in paths if path.rpartition(".")[2] not in words}


def test_every_hook_is_a_row(hooked):
    assert len(hooked) > 15
    assert without_row(hooked) == set()


def test_every_overridden_method_is_a_row():
    methods = set().union(*map(overridden, classes()))
    assert len(methods) > 30
    assert without_row(methods) == set()


def test_every_attribute_wrapped_in_place_is_a_row():
    wrapped = wrapped_in(SOURCES.values())
    assert {"forward_batch_generation", "check_weights", "begin_forward"} <= wrapped
    assert names_without_row(wrapped) == set()


def test_every_row_is_used(hooked):
    assert unused(ROWS, hooked) == set()


def test_negative_control_a_hook_without_row(hooked, monkeypatch):
    more = lambda: plugin.hook("sglang.srt.managers.io_struct.AbortReq", None, None)  # noqa: E731
    monkeypatch.setattr(plugin, "_register_controller", more)
    plugin.activate()
    assert without_row(hooked) == {"sglang.srt.managers.io_struct.AbortReq"}


def test_negative_control_an_override_without_row():
    class Ours(Scheduler):
        def process_input_requests(self): ...

    (path,) = without_row(overridden(Ours))
    assert path.endswith(".Scheduler.process_input_requests")


def test_negative_control_a_wrapped_attribute_without_row():
    wrapped = wrapped_in(["runner.load_model = partial(ours, runner.load_model)"])
    assert names_without_row(wrapped) == {"load_model"}


def test_negative_control_a_row_that_nobody_uses(hooked):
    idle = replace(ROWS[0], path="sglang.srt.managers.scheduler.Scheduler.process_input_requests")
    assert unused([*ROWS, idle], hooked) == {idle.path}
