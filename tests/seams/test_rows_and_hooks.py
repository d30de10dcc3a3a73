"""The seams table and the code say the same: what is hooked has a row, what has a row is used."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from sglang.srt.managers.scheduler import Scheduler

import llm42_sglang
from llm42_sglang.core.config import Config
from llm42_sglang.engine import plugin, seams, settings

PACKAGE = Path(llm42_sglang.__file__).parent
TABLE = PACKAGE / "engine" / "seams" / "table.py"
ROWS = (*seams.SEAMS, *seams.GPU_SEAMS)
NOT_SGLANGS = {"begin_forward"}  # FlashInfer's: see tests/engine/backends/test_flashinfer.py


class Code(NamedTuple):
    """What sources refer to."""

    imported: set[str]  # dotted paths
    named: set[str]  # attributes and keywords, by their last name
    wrapped: set[str]  # attributes replaced by a partial that calls what they were
    text: str  # comments and docstrings are part of it


def code_of(sources: Iterable[str]) -> Code:
    """Read them; nothing is imported."""
    code, texts = Code(set(), set(), set(), ""), list(sources)
    for node in (node for text in texts for node in ast.walk(ast.parse(text))):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                code.imported.update(f"{module}.{alias.name}" for alias in names)
            case ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                code.named.add(name)
            case ast.Assign(
                [ast.Attribute(attr=name) as target], ast.Call(ast.Name("partial"), to)
            ):
                if ast.unparse(target) in map(ast.unparse, to):
                    code.wrapped.add(name)
    return code._replace(text="\n".join(texts))


@cache
def package() -> Code:
    """Our own, the table left out."""
    return code_of(path.read_text() for path in PACKAGE.rglob("*.py") if path != TABLE)


def classes() -> Iterator[type]:
    """Those of the layers that may import SGLang."""
    for path in (*(PACKAGE / "engine").rglob("*.py"), *(PACKAGE / "platform").rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        found = vars(importlib.import_module(name)).values()
        yield from (each for each in found if inspect.isclass(each) and each.__module__ == name)


def overridden(cls: type) -> set[str]:
    """SGLang's methods that a class of ours stands in for, as dotted paths."""
    owners = {
        name: next((base for base in cls.__mro__[1:] if name in vars(base)), object)
        for name, mine in vars(cls).items()
        if not name.startswith("__") and (inspect.isroutine(mine) or isinstance(mine, property))
    }
    return {
        f"{owner.__module__}.{owner.__qualname__}.{name}"
        for name, owner in owners.items()
        if owner.__module__.startswith("sglang.")
    }


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


def unused(rows: Iterable[seams.Seam], targets: set[str], code: Code) -> set[str]:
    """Rows of what is not hooked, overridden, imported, read as an attribute, or at least named
    in a comment where the code relies on it."""
    return {
        seam.path
        for seam in rows
        if seam.path not in targets | code.imported
        and (name := seam.path.rpartition(".")[2]) not in code.named
        and not re.search(rf"\b{name}\b", code.text)
    }


def test_every_hook_is_a_row(hooked):
    assert len(hooked) > 15
    assert without_row(hooked) == set()


def test_every_imported_symbol_is_a_row():
    """A class is covered by a row for it, or for each of its methods that is used."""
    imported = {path for path in package().imported if path.startswith("sglang.")}
    assert len(imported) > 50, len(imported)
    owners = {seam.path.rpartition(".")[0] for seam in ROWS}
    assert without_row(imported) <= owners


def test_every_overridden_method_is_a_row():
    methods = set().union(*map(overridden, classes()))
    assert len(methods) > 30
    assert without_row(methods) == set()


def test_every_attribute_wrapped_in_place_is_a_row():
    assert {"forward_batch_generation", "check_weights", "begin_forward"} <= package().wrapped
    assert names_without_row(package().wrapped) == set()


def test_every_row_is_used(hooked):
    targets = hooked.union(*map(overridden, classes()))
    assert unused(ROWS, targets, package()) == set()


def test_negative_control_a_hook_without_row(hooked, monkeypatch):
    more = lambda: plugin.hook("sglang.srt.managers.io_struct.FreezeGCReq", None, None)  # noqa: E731
    monkeypatch.setattr(plugin, "_register_controller", more)
    plugin.activate()
    assert without_row(hooked) == {"sglang.srt.managers.io_struct.FreezeGCReq"}


def test_negative_control_an_override_without_row():
    class Ours(Scheduler):
        def process_input_requests(self): ...

    (path,) = without_row(overridden(Ours))
    assert path.endswith(".Scheduler.process_input_requests")


def test_negative_control_a_wrapped_attribute_without_row():
    code = code_of(["runner.set_up = partial(ours, runner.set_up)"])
    assert names_without_row(code.wrapped) == {"set_up"}


def test_negative_control_a_row_that_nobody_uses(hooked):
    idle = replace(ROWS[0], path="sglang.srt.managers.scheduler.Scheduler.process_input_requests")
    assert unused([*ROWS, idle], hooked, package()) == {idle.path}
    assert unused(ROWS, set(), code_of([])) == {seam.path for seam in ROWS}
