"""One symbol of an SGLang, found in its sources: where it is defined, its signature, its body.

All are texts of `ast.unparse`, so comments and layout do not count, annotations and defaults do.
"""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.upstream.sources import Sources

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Names = dict[str, list[ast.stmt]]  # name -> the statements that bind it


class Symbol(NamedTuple):
    """What there is to say of a symbol without importing it."""

    home: str  # module that defines it, or its class
    signature: tuple[str, ...]  # arguments, or fields, or an enum's members
    parts: dict[str, str]  # body: of a class by member, else one part without a name


class _Found(NamedTuple):
    """The statements that bind a name, and the module they stand in."""

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
        names: list[str] = []
        while self.names(module) is None and "." in module:
            module, _, name = module.rpartition(".")
            names.insert(0, name)
        found = self._global(module, names[0])
        home = found.module if found else ""
        for name in names[1:]:
            found = found and self._member(found, name)
        if not found:
            return None
        _drop_docstrings(found.nodes)
        return Symbol(home, self._signature(found), _parts(found.nodes))

    def names(self, module: str) -> Names | None:
        """What a module's top level binds; None if there is no such module. Parsed once."""
        if module not in self._known:
            self._known[module] = self._parse(module)
        return self._known[module]

    def _parse(self, module: str) -> Names | None:
        stem = module.replace(".", "/")
        for path, package in ((f"{stem}.py", False), (f"{stem}/__init__.py", True)):
            content = self.sources.read(path)
            if content is not None:
                try:
                    return _bound(_statements(ast.parse(content).body, module, package))
                except SyntaxError as error:
                    raise UserError(
                        f"{path} of sglang {self.sources.version} cannot be parsed by this "
                        f"Python: {error.msg}"
                    ) from None
        return None

    def _global(self, module: str, name: str, hops: int = 8) -> _Found | None:
        """What a module calls `name`, at most `hops` imports away."""
        names = self.names(module) or {}
        nodes = names.get(name, names.get("*", []))
        if local := [node for node in nodes if not isinstance(node, ast.ImportFrom)]:
            return _Found(module, local)
        for node in nodes if hops else ():
            assert isinstance(node, ast.ImportFrom)
            original = next((a.name for a in node.names if (a.asname or a.name) == name), name)
            if node.module and (found := self._global(node.module, original, hops - 1)):
                return found
        return None

    def _lineage(self, found: _Found) -> Iterator[tuple[str, ast.ClassDef]]:
        """The class, then its base classes, each with its module; nothing for another symbol."""
        for node in found.nodes:
            if isinstance(node, ast.ClassDef):
                yield found.module, node
                for base in node.bases:
                    name = ast.unparse(base).partition("[")[0]  # of Generic[T] too
                    if inherited := self._global(found.module, name):
                        yield from self._lineage(inherited)

    def _member(self, found: _Found, name: str) -> _Found | None:
        """An attribute of a class, its own or the first that a base class has."""
        for module, owner in self._lineage(found):
            if nodes := _bound(owner.body).get(name):
                return _Found(module, nodes)
        return None

    def _signature(self, found: _Found) -> tuple[str, ...]:
        node = found.nodes[-1]
        if isinstance(node, FUNCTIONS):
            return _head(node)
        if not isinstance(node, ast.ClassDef):
            return ()
        init = self._member(found, "__init__")
        if init and isinstance(init.nodes[-1], FUNCTIONS):
            return _head(init.nodes[-1])
        owners = [owner for _, owner in self._lineage(found)]
        return tuple(
            ast.unparse(statement)
            for owner in reversed(owners)
            for statement in owner.body
            if isinstance(statement, ast.AnnAssign | ast.Assign)
        )


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


def _bound(statements: Iterator[ast.stmt] | list[ast.stmt]) -> Names:
    names: Names = {}
    for node in statements:
        for name in _names_of(node):
            names.setdefault(name, []).append(node)
    return names


def _names_of(node: ast.stmt) -> list[str]:
    """The names that a statement binds, by definition, assignment or import."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.Assign():
            return [target.id for target in node.targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(name)):
            return [name]
        case ast.ImportFrom():
            return [alias.asname or alias.name for alias in node.names]
    return []


def _head(node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, ...]:
    """`@property`, `FunctionDef`, `self, a`, `b: int=3`, `-> int`."""
    decorators = [f"@{ast.unparse(decorator)}" for decorator in node.decorator_list]
    arguments = re.split(r", (?=\**\w+[:=])", ast.unparse(node.args))
    returns = [f"-> {ast.unparse(node.returns)}"] if node.returns else []
    return (*decorators, type(node).__name__, *arguments, *returns)


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
    return "\n".join(map(ast.unparse, nodes))


def _drop_docstrings(nodes: list[ast.stmt]) -> None:
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:] or [ast.Pass()]
