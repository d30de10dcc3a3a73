"""Dependencies point one way. The two tables below are the rule."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "llm42_sglang"
ROOT = Path(__file__).parents[1] / PACKAGE

# layer -> the other layers it may import; "" is the package's own __init__
MAY_IMPORT = {
    # The tests of others use it; it starts servers and asks them.
    "pytest_plugin": {"cli", "repro", ""},
    "cli": {
        *{"report", "repro"},
        *{"frontend", "engine", "platform", "sampling", "core", ""},
    },
    "report": {"repro", "core", ""},
    "repro": {"core", ""},  # a client: it never needs an engine
    # Its hooks install the frontend. At /llm42/verify the server is its own client.
    "engine": {"repro", "frontend", "platform", "sampling", "core", ""},
    "frontend": {"core", ""},
    "platform": {"core", ""},
    "sampling": {"core", ""},
    "core": set(),
    "": set(),
}
# What the package's own __init__ may import when somebody asks for it, and not before.
HANDED_OUT = f"{PACKAGE}.engine.offline.Engine"
# The rooms of the engine, from the ground up: a room may import those on lower floors and itself.
# The modules of TOP put the rooms together; all other files of the folder are leaves.
FLOORS = [{"leaves"}, {"seams"}, {"passes"}, {"weights"}, {"front", "start", "loop"}, {"top"}]
TOP = {"plugin", "scheduler", "offline", "trial"}
# Of the world outside, these have the standard library only.
STANDARD_LIBRARY_ONLY = {"core"}
# Who may import sglang; the others never do, not even inside a function.
MAY_IMPORT_SGLANG = {
    "engine": "anywhere",
    "platform": "anywhere",
    "cli": "inside functions",  # `llm42 --help` must not wait for it
}


class Import(NamedTuple):
    module: str  # absolute dotted name
    line: int
    deferred: bool  # runs only when a function is called


def imports_of(path: Path, package: tuple[str, ...]) -> Iterator[Import]:
    """Every import in a file of `package`, `importlib.import_module("...")` included."""

    def visit(node: ast.AST, deferred: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            for module in _modules(child, package):
                yield Import(module, getattr(child, "lineno", 0), deferred)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from visit(child, deferred or inside)

    return visit(ast.parse(path.read_text(), str(path)), deferred=False)


def _modules(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    match node:
        case ast.Import(names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module, names, level):
            base = [*package[: len(package) - level + 1]] if level else []
            base += [module] if module else []
            # `from llm42_sglang import core` names a layer, `from .pages import Span` does not.
            return [".".join([*base, alias.name]) for alias in names]
        case ast.Call(
            ast.Name("import_module" | "__import__") | ast.Attribute(attr="import_module"),
            [ast.Constant(str(name)), *_],
        ):
            return [name]
    return []


def violations(root: Path) -> list[str]:
    """What breaks the rule under `root`, one line each."""
    return [
        f"{path.relative_to(root)}:{found.line} imports {found.module}: {complaint}"
        for path in sorted(root.rglob("*.py"))
        for found in imports_of(path, (PACKAGE, *path.relative_to(root).parts[:-1]))
        if (complaint := _complaint(_layer(path.relative_to(root).parts), found))
    ]


def _layer(parts: tuple[str, ...]) -> str:
    return parts[0] if len(parts) > 1 else ""


def _complaint(layer: str, found: Import) -> str | None:
    if layer not in MAY_IMPORT:
        return f"layer {layer!r} is not in the table of {Path(__file__).name}"
    top, *rest = found.module.split(".")
    if not layer and found.deferred and found.module == HANDED_OUT:
        return None
    if top == PACKAGE:
        target = rest[0] if rest and rest[0] in MAY_IMPORT else ""
        allowed = target == layer or target in MAY_IMPORT[layer]
        return None if allowed else f"{layer or 'the package'} may not import {target or PACKAGE}"
    if top == "sglang":
        where = MAY_IMPORT_SGLANG.get(layer)
        allowed = where == "anywhere" or (where == "inside functions" and found.deferred)
        return None if allowed else f"allowed {where or 'nowhere'} in {layer or 'the package'}"
    if layer in STANDARD_LIBRARY_ONLY and top not in sys.stdlib_module_names:
        return f"{layer} has the standard library only"
    return None


def test_dependencies_point_one_way() -> None:
    assert violations(ROOT) == []


def _room(module: str) -> str:
    """Of a module of the engine, by its name behind `engine.`."""
    first, _, _rest = module.partition(".")
    if (ROOT / "engine" / first).is_dir():
        return first
    return "top" if first in TOP else "leaves"


def _may_enter(here: str, there: str) -> bool:
    floors = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    return here == there or floors[there] < floors[here]


def test_rooms_of_the_engine_have_floors() -> None:
    engine = f"{PACKAGE}.engine."
    seen = set()
    for path in sorted((ROOT / "engine").rglob("*.py")):
        inside = path.relative_to(ROOT / "engine").with_suffix("").parts
        here = _room(".".join(inside))
        for found in imports_of(path, (PACKAGE, "engine", *inside[:-1])):
            if found.module.startswith(engine):
                there = _room(found.module.removeprefix(engine))
                seen.add((here, there))
                assert _may_enter(here, there), f"{path.name}:{found.line}: {here} -> {there}"
    assert ("top", "loop") in seen and ("loop", "passes") in seen
    assert not _may_enter("passes", "loop") and not _may_enter("front", "start")


def _circle(root: Path) -> set[str]:
    """Modules that import themselves by way of others; deferred imports count."""
    modules = {}
    for path in root.rglob("*.py"):
        parts = (PACKAGE, *path.relative_to(root).with_suffix("").parts)
        modules[".".join(parts).removesuffix(".__init__")] = path, parts[:-1]
    graph = {}
    for name, (path, package) in modules.items():
        named = {found.module for found in imports_of(path, package)} - {HANDED_OUT}
        named |= {module.rpartition(".")[0] for module in named - set(modules)}
        graph[name] = named & set(modules) - {name}
    while leaves := {name for name, targets in graph.items() if not targets}:
        graph = {name: targets - leaves for name, targets in graph.items() if name not in leaves}
    return set(graph)


def test_no_module_imports_itself_by_way_of_others(tmp_path: Path) -> None:
    assert _circle(ROOT) == set()
    _write(tmp_path / "engine" / "a.py", "from llm42_sglang.engine import b")
    _write(tmp_path / "engine" / "b.py", "def f():\n    from llm42_sglang.engine.a import g")
    assert _circle(tmp_path) == {f"{PACKAGE}.engine.a", f"{PACKAGE}.engine.b"}


def test_no_two_public_classes_share_a_name() -> None:
    files: dict[str, list[str]] = {}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                files.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert len(files) > 100
    assert {name: paths for name, paths in files.items() if len(paths) > 1} == {}


def test_every_layer_of_the_table_exists() -> None:
    # A renamed folder must not leave its rule behind.
    assert {path.name for path in ROOT.iterdir() if any(path.glob("*.py"))} <= set(MAY_IMPORT)
    assert all((ROOT / layer).is_dir() for layer in MAY_IMPORT)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("core/a.py", "import torch"),
        ("core/a.py", "from sglang.srt import utils"),
        ("core/a.py", "from llm42_sglang import __version__"),
        ("core/a.py", "from llm42_sglang.engine import lane"),
        ("core/a.py", "from .. import engine"),
        ("core/deep/a.py", "from ...engine.lane import Lane"),
        ("core/a.py", "def f():\n    import numpy"),
        ("core/a.py", "if TYPE_CHECKING:\n    import sglang"),
        ("frontend/a.py", "from llm42_sglang.engine import hooks"),
        ("frontend/a.py", "def f():\n    import sglang"),
        ("frontend/a.py", "importlib.import_module('sglang.srt')"),
        ("sampling/a.py", "import sglang.srt.utils as utils"),
        ("sampling/a.py", "from llm42_sglang import platform"),
        ("platform/a.py", "import llm42_sglang.sampling.greedy"),
        ("engine/a.py", "from llm42_sglang.cli.main import main"),
        ("repro/a.py", "from llm42_sglang.cli.output import say"),
        ("repro/a.py", "from llm42_sglang.report import page"),
        ("repro/a.py", "def f():\n    import sglang"),
        ("report/a.py", "from llm42_sglang.cli.bench import report"),
        ("pytest_plugin/a.py", "from llm42_sglang.engine import launch"),
        ("pytest_plugin/__init__.py", "def f():\n    import sglang"),
        ("cli/a.py", "import sglang"),
        ("cli/a.py", "class A:\n    from sglang import srt"),
        ("__init__.py", "from llm42_sglang.core import pages"),
        ("__init__.py", "from llm42_sglang.engine.offline import Engine"),
        ("elsewhere/a.py", "import os"),
    ],
)
def test_a_forbidden_import_is_caught(tmp_path: Path, file: str, source: str) -> None:
    _write(tmp_path / file, source)
    assert len(violations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("core/a.py", "import json\nfrom .pages import Span\nfrom llm42_sglang.core import pages"),
        ("frontend/a.py", "import fastapi\nfrom ..core.config import Config"),
        ("sampling/a.py", "import torch"),
        ("engine/a.py", "import sglang\nfrom llm42_sglang import __version__, frontend, platform"),
        ("platform/a.py", "from sglang.srt import platforms"),
        ("repro/a.py", "import httpx\nfrom llm42_sglang.errors import UserError"),
        ("report/a.py", "import jinja2\nfrom llm42_sglang.repro.judge import CheckVerdict"),
        ("pytest_plugin/a.py", "from llm42_sglang.cli.launch import ServerProcess"),
        ("__init__.py", "def f():\n    from llm42_sglang.engine.offline import Engine"),
        ("cli/a.py", "from llm42_sglang import engine\nasync def f():\n    import sglang"),
    ],
)
def test_what_the_rule_allows_passes(tmp_path: Path, file: str, source: str) -> None:
    _write(tmp_path / file, source)
    assert violations(tmp_path) == []


def _write(path: Path, source: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
