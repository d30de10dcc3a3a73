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
    "engine": {"frontend", "platform", "sampling", "core", ""},  # its hooks install the frontend
    "frontend": {"core", ""},
    "platform": {"core", ""},
    "sampling": {"core", ""},
    "core": set(),
    "": set(),
}
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
        ("report/a.py", "import jinja2\nfrom llm42_sglang.repro.judge import Verdict"),
        ("pytest_plugin/a.py", "from llm42_sglang.cli.launch import ServerProcess"),
        ("cli/a.py", "from llm42_sglang import engine\nasync def f():\n    import sglang"),
    ],
)
def test_what_the_rule_allows_passes(tmp_path: Path, file: str, source: str) -> None:
    _write(tmp_path / file, source)
    assert violations(tmp_path) == []


def _write(path: Path, source: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
