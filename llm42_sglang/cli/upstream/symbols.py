"""One symbol of an SGLang, found in its sources: where it is defined, its signature, its body."""

import ast
from copy import copy
from functools import cache
from importlib.util import resolve_name
from typing import NamedTuple

from llm42_sglang.cli.upstream.sources import Read
from llm42_sglang.errors import UserError

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Names = dict[str, list[ast.stmt]]  # name -> the statements that bind it


class Symbol(NamedTuple):
    """Texts of `ast.unparse`: no comments, layout or docstrings, but annotations and defaults."""

    home: str  # module that defines it, or its class
    signature: list[str]  # decorators and arguments, or fields, or an enum's members
    parts: dict[str, str]  # body: of a class by member, else one part without a name


class Finder:
    """Finds symbols in the sources; imports nothing."""

    def __init__(self, read: Read):
        self._read = read
        self._names = cache(self._parse)

    def find(self, path: str) -> Symbol | None:
        """The symbol with this dotted path, imports and base classes followed; None: it is gone."""
        module = path
        while self._names(module) is None and "." in module:
            module = module.rpartition(".")[0]
        name, *members = path.removeprefix(module + ".").split(".")
        nodes = self._global(module, name)
        for member in members:
            nodes = self._members(nodes).get(member, [])
        return Symbol(nodes[-1].home, self._signature(nodes), _parts(nodes)) if nodes else None

    def _parse(self, module: str) -> Names | None:
        """What a module binds; None if there is no such module. Every node gets its home."""
        stem = module.replace(".", "/")
        for path in (f"{stem}.py", f"{stem}/__init__.py"):
            if (content := self._read(path)) is not None:
                try:
                    tree = ast.parse(content)
                except SyntaxError as error:
                    raise UserError(f"this Python cannot parse {path}: {error.msg}") from None
                package = path.rpartition("/")[0].replace("/", ".")
                for node in ast.walk(tree):
                    node.home = module
                    if isinstance(node, ast.ImportFrom):
                        node.home = resolve_name("." * node.level + (node.module or ""), package)
                    if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and ast.get_docstring(node):
                        node.body = node.body[1:] or [ast.Pass()]
                return _bound(tree.body)
        return None

    def _global(self, module: str, name: str, hops: int = 8) -> list[ast.stmt]:
        """What defines a module's name, at most `hops` imports away."""
        names, found = self._names(module) or {}, []
        for node in names.get(name, names.get("*", ())) if hops else ():
            if isinstance(node, ast.ImportFrom):
                original = next((a.name for a in node.names if a.asname == name), name)
                found += self._global(node.home, original, hops - 1)
            else:
                found.append(node)
        return found

    def _members(self, nodes: list[ast.stmt]) -> Names:
        """The members of a class, those of its base classes too; none of another symbol."""
        names: Names = {}
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                for base in reversed(node.bases):
                    name = ast.unparse(base).partition("[")[0]  # of Generic[T] too
                    names |= self._members(self._global(node.home, name))
                names |= _bound(node.body)
        return names

    def _signature(self, nodes: list[ast.stmt]) -> list[str]:
        members = self._members(nodes)
        for node in [nodes[-1], *members.get("__init__", ())[-1:]]:
            if isinstance(node, FUNCTIONS):
                bare = copy(node)
                bare.body = []
                return ast.unparse(bare).splitlines()
        fields = [node for bound in members.values() for node in bound]
        return [ast.unparse(n) for n in fields if isinstance(n, ast.AnnAssign | ast.Assign)]


def _bound(body: list[ast.stmt]) -> Names:
    """By name, the statements that bind it, those in branches too."""
    names: Names = {}
    rest = [*body]
    for node in rest:
        if isinstance(node, ast.If | ast.Try | ast.ExceptHandler):  # rest grows by what is in it
            rest += [*node.body, *getattr(node, "orelse", ()), *getattr(node, "handlers", ())]
        several = "names" if isinstance(node, ast.ImportFrom) else "targets"
        for one in getattr(node, several, [getattr(node, "target", node)]):
            name = getattr(one, "asname", None) or getattr(one, "name", getattr(one, "id", None))
            if name:
                names.setdefault(name, []).append(node)
    return names


def _parts(nodes: list[ast.stmt]) -> dict[str, str]:
    """The body. A literal is meant to change, `__version__`; what is built of names is not."""
    node = nodes[-1]
    if isinstance(node, ast.ClassDef):
        own = {name: "\n".join(map(ast.unparse, of)) for name, of in _bound(node.body).items()}
        return own | {"bases": ", ".join(map(ast.unparse, node.bases))}
    if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
        return {"": type(node.value.value).__name__}
    return {"": "\n".join(map(ast.unparse, nodes))}
