"""The seams table and the code say the same: what is hooked has a row, what has a row is used."""

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from sglang.srt.managers.scheduler import Scheduler

import llm42_sglang
from llm42_sglang.core.config import Config
from llm42_sglang.engine import faults, hooks, plugin, settings
from llm42_sglang.engine.seam import Seam
from llm42_sglang.engine.seams.table import GPU_SEAMS

PACKAGE = Path(llm42_sglang.__file__).parent
TABLE = PACKAGE / "engine" / "seams" / "table.py"
SEAMS = (*plugin.SEAMS, *GPU_SEAMS)
SYMBOLS = {seam.path for seam in SEAMS}
NOT_SGLANGS = {"begin_forward"}  # FlashInfer's: see tests/engine/backends/test_flashinfer.py

Hooks = set[tuple[str, str]]  # a function's qualified name, and what it hooks


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


@cache
def modules() -> tuple[ModuleType, ...]:
    """Those of the layers that may import SGLang."""
    paths = (path for layer in ("engine", "platform") for path in (PACKAGE / layer).rglob("*.py"))
    parts = (path.relative_to(PACKAGE.parent).with_suffix("").parts for path in paths)
    names = (".".join(each).removesuffix(".__init__") for each in parts)
    return tuple(map(importlib.import_module, names))


def classes() -> Iterator[type]:
    for module in modules():
        found = filter(inspect.isclass, vars(module).values())
        yield from (each for each in found if each.__module__ == module.__name__)


def overridden() -> set[str]:
    """SGLang's methods that classes of ours stand in for, as dotted paths."""
    return {path for cls in classes() for path in hooks.overridden(cls).values()}


def declared(where: Iterable[ModuleType]) -> Hooks:
    """Every hook that is declared in these modules."""
    found = (hook for module in where for hook in hooks.marked(module))
    marks = ((hook.__qualname__, mark) for hook in found for mark in hooks.marks_of(hook))
    return {(name, target) for name, mark in marks for target in mark.targets}


@pytest.fixture
def activated(monkeypatch) -> Callable[..., Hooks]:
    """The hooks that a process registers, serving or not, with these faults."""

    def activate(*injected: str, serving: bool = True) -> Hooks:
        registered = set()
        if serving:
            monkeypatch.setenv(settings.VARIABLE, Config().to_json())
        monkeypatch.setenv(faults.VARIABLE, ",".join(injected))
        remember = lambda target, hook, kind: registered.add((hook.__qualname__, target))  # noqa: E731
        monkeypatch.setattr(hooks, "_hook", remember)
        plugin.activate()
        return registered

    return activate


@pytest.fixture
def hooked(activated) -> set[str]:
    """Every target that a serving process registers."""
    return {target for _, target in activated()}


def without_row(paths: Iterable[str]) -> set[str]:
    return set(paths) - SYMBOLS


def names_without_row(names: Iterable[str]) -> set[str]:
    return set(names) - {symbol.rpartition(".")[2] for symbol in SYMBOLS} - NOT_SGLANGS


def unused(seams: Iterable[Seam], targets: set[str], code: Code) -> set[str]:
    """Symbols that are not hooked, overridden, imported, read as an attribute, or at least named
    in a comment where the code relies on them."""
    return {
        seam.path
        for seam in seams
        if seam.path not in targets | code.imported
        and (name := seam.path.rpartition(".")[2]) not in code.named
        and not re.search(rf"\b{name}\b", code.text)
    }


def test_every_hook_is_a_row(activated):
    hooked = {target for _, target in activated(*faults.HOOKS)}
    assert len(hooked) > 30
    assert without_row(hooked) == set()


def test_every_declared_hook_is_registered(activated):
    """In a process that serves, with every fault that hooks."""
    assert declared(modules()) == activated(*faults.HOOKS)


def test_there_is_no_other_way_to_hook():
    """A function is hooked only by its mark, and the mark is its row."""
    ways = r"HookRegistry\.(register|_hooks)|plugin_hook|\b_hook\("
    code = {path for path in PACKAGE.rglob("*.py") if path != TABLE}
    assert [path.name for path in code if re.search(ways, path.read_text())] == ["hooks.py"]


def test_what_is_left_out_where(activated):
    """Faults unless they are named; the rest of a server's hooks where there is no such server."""
    stock, serving = activated(serving=False), activated()
    scheduler, front = declared(plugin.SCHEDULER), declared(plugin.FRONT)
    assert stock < front and serving == scheduler | front | declared(plugin.CONTROLLER)
    assert ("Gatekeeper.add_receipt", plugin.gatekeeper._MANAGER + ".update_request_meta_info") in (
        front - stock
    )
    assert serving - activated("no-scheduler") == scheduler
    added = {name for name, _ in activated("step", "decode") - serving}
    assert added == {faults.HOOKS[name].__name__ for name in ("step", "decode")}


def test_every_imported_symbol_is_a_row():
    """A class is covered by a row for it, or for those of its members that are used."""
    imported = {path for path in package().imported if path.startswith("sglang.")}
    assert len(imported) > 50, len(imported)
    owners = {symbol.rpartition(".")[0] for symbol in SYMBOLS}
    assert without_row(imported) <= owners


def test_every_overridden_method_is_a_row():
    methods = overridden()
    assert len(methods) > 30
    assert without_row(methods) == set()


def test_every_attribute_wrapped_in_place_is_a_row():
    assert {"forward_batch_generation", "check_weights", "begin_forward"} <= package().wrapped
    assert names_without_row(package().wrapped) == set()


def test_every_row_is_used(hooked):
    assert unused(SEAMS, hooked | overridden(), package()) == set()


def test_negative_control_a_hook_without_row(activated):
    """One that is declared where `plugin` does not look is neither registered nor a row."""
    stray, target = ModuleType("stray"), "sglang.srt.managers.io_struct.FreezeGCReq.__init__"

    @hooks.before(target, "see nothing")
    def look(*args): ...

    look.__module__, stray.look = "stray", look
    ((name, missed),) = declared([*modules(), stray]) - activated(*faults.HOOKS)
    assert name.endswith("look") and {missed} == without_row([target]) == {target}


def test_negative_control_an_override_without_row():
    class Ours(Scheduler):
        def process_input_requests(self): ...

    (path,) = without_row(hooks.overridden(Ours).values())
    assert path.endswith(".Scheduler.process_input_requests")


def test_a_class_that_stands_in_brings_a_row_with_what_it_overrides():
    @hooks.stand_in("see")
    class Ours(Scheduler):
        def process_input_requests(self): ...

    class Theirs(Ours):
        """Not marked, whatever its base class is."""

    (mark,) = hooks.marks_of(Ours)
    path = "sglang.srt.managers.scheduler.Scheduler"
    assert mark.targets == (path,)
    method = Seam(f"{path}.process_input_requests", "have Ours.process_input_requests in its place")
    assert mark.seams == (Seam(path, "see"), method)
    assert hooks.marks_of(Theirs) == ()


def test_negative_control_a_wrapped_attribute_without_row():
    code = code_of(["runner.set_up = partial(ours, runner.set_up)"])
    assert names_without_row(code.wrapped) == {"set_up"}


def test_negative_control_a_row_that_nobody_uses(hooked):
    idle = Seam("sglang.srt.managers.scheduler.Scheduler.process_input_requests", "see")
    assert unused([*SEAMS, idle], hooked | overridden(), package()) == {idle.path}
    assert unused(SEAMS, set(), code_of([])) == SYMBOLS
