"""One symbol of an SGLang, found in its sources: where it is defined, its signature, its body.

All are texts of `ast.unparse`, so comments and layout do not count, annotations and defaults do.
"""

import ast
from collections.abc import Iterable, Iterator
from copy import copy
from typing import NamedTuple

from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.upstream.sources import Sources

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Names = dict[str, list[ast.stmt]]  # name -> the statements that bind it


class Symbol(NamedTuple):
    """What there is to say of a symbol without importing it."""

    home: str  # module that defines it, or its class
    signature: tuple[str, ...]  # decorators and arguments, or fields, or an enum's members
    parts: dict[str, str]  # body: of a class by member, else one part without a name


class _Found(NamedTuple):
    """The statements that bind a name, none if nothing does, and the module they stand in."""

    module: str
    nodes: list[ast.stmt]


class Finder:
    """Finds symbols in the sources; imports nothing."""

    def __init__(self, sources: Sources):
        self.sources = sources
        self._known: dict[str, Names | None] = {}

    def find(self, path: str) -> Symbol | None:
        """The symbol with this dotted path, imports and base classes followed; None: it is gone."""
        module = path
        while self.names(module) is None and "." in module:
            module = module.rpartition(".")[0]
        name, *members = path.removeprefix(module + ".").split(".")
        found = self._global(module, name)
        for member in members:
            found = self._member(found, member)
        if not found.nodes:
            return None
        return Symbol(found.module, self._signature(found), _parts(found.nodes))

    def names(self, module: str) -> Names | None:
        """What a module's top level binds; None if there is no such module. Parsed once."""
        if module not in self._known:
            self._known[module] = self._parse(module)
        return self._known[module]

    def _parse(self, module: str) -> Names | None:
        stem = module.replace(".", "/")
        for path, package in ((f"{stem}.py", False), (f"{stem}/__init__.py", True)):
            if (content := self.sources.read(path)) is not None:
                try:
                    tree = ast.parse(content)
                except SyntaxError as error:
                    raise UserError(
                        f"{path} of sglang {self.sources.version} cannot be parsed by this "
                        f"Python: {error.msg}"
                    ) from None
                return _bound(_statements(tree.body, module, package))
        return None

    def _global(self, module: str, name: str, hops: int = 8) -> _Found:
        """What a module calls `name`, at most `hops` imports away."""
        names = self.names(module) or {}
        nodes = names.get(name, names.get("*", []))
        if local := [node for node in nodes if not isinstance(node, ast.ImportFrom)]:
            return _Found(module, local)
        for node in nodes if hops else ():
            original = next((a.name for a in node.names if (a.asname or a.name) == name), name)
            if (found := self._global(node.module or "", original, hops - 1)).nodes:
                return found
        return _Found(module, [])

    def _lineage(self, found: _Found) -> Iterator[tuple[str, ast.ClassDef]]:
        """The class, then its base classes, each with its module; nothing for another symbol."""
        for node in found.nodes:
            if isinstance(node, ast.ClassDef):
                yield found.module, node
                for base in node.bases:
                    name = ast.unparse(base).partition("[")[0]  # of Generic[T] too
                    yield from self._lineage(self._global(found.module, name))

    def _member(self, found: _Found, name: str) -> _Found:
        """An attribute of a class, its own or the first that a base class has."""
        for module, owner in self._lineage(found):
            if nodes := _bound(owner.body).get(name):
                return _Found(module, nodes)
        return _Found(found.module, [])

    def _signature(self, found: _Found) -> tuple[str, ...]:
        for node in [*found.nodes[-1:], *self._member(found, "__init__").nodes[-1:]]:
            if isinstance(node, FUNCTIONS):
                return _head(node)
        fields = [node for _, owner in self._lineage(found) for node in owner.body]
        return tuple(ast.unparse(n) for n in fields if isinstance(n, ast.AnnAssign | ast.Assign))


def _statements(body: list[ast.stmt], module: str, package: bool) -> Iterator[ast.stmt]:
    """Statements of a module and of its branches; the modules of imports made absolute."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            handlers = [line for handler in getattr(node, "handlers", ()) for line in handler.body]
            yield from _statements([*node.body, *node.orelse, *handlers], module, package)
        if isinstance(node, ast.ImportFrom) and node.level:
            base = module.split(".")[: len(module.split(".")) - node.level + package]
            node.module = ".".join([*base, *filter(None, [node.module])])
        yield node


def _bound(statements: Iterable[ast.stmt]) -> Names:
    """By name, the statements that bind it: definitions, assignments, imports."""
    names: Names = {}
    for node in statements:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        bound = [target.id for target in targets if isinstance(target, ast.Name)]
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            bound = [node.name]
        if isinstance(node, ast.ImportFrom):
            bound = [alias.asname or alias.name for alias in node.names]
        for name in bound:
            names.setdefault(name, []).append(node)
    return names


def _head(node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, ...]:
    """Its decorators, and the line with its arguments."""
    bare = copy(node)
    bare.body = [ast.Pass()]
    return tuple(ast.unparse(bare).splitlines()[:-1])


def _parts(nodes: list[ast.stmt]) -> dict[str, str]:
    """The body. A literal is meant to change, `__version__`; what is built of names is not."""
    node = nodes[-1]
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(map(ast.unparse, node.bases))
        return {"bases": bases} | {name: _text(own) for name, own in _bound(node.body).items()}
    if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
        return {"": type(node.value.value).__name__}
    return {"": _text(nodes)}


def _text(nodes: list[ast.stmt]) -> str:
    """Without docstrings."""
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:] or [ast.Pass()]
    return "\n".join(map(ast.unparse, nodes))
