"""One symbol of an SGLang, found in its sources: signature and body.

Signatures are compared as text, so an annotation or a default counts; bodies without comments,
docstrings and blank lines.
"""

import ast
import io
import tokenize
from collections.abc import Iterator
from typing import NamedTuple

from llm42_sglang.cli.upstream.modules import Module, Modules, bound_names
from llm42_sglang.engine.seams.seam import digest

Function = ast.FunctionDef | ast.AsyncFunctionDef
_ENUMS = {"Enum", "IntEnum", "StrEnum", "Flag", "IntFlag"}


class Symbol(NamedTuple):
    """What there is to say of a symbol without importing it."""

    home: str  # module that defines it, or its class
    signature: str
    parts: dict[str, str]  # body: of a class by member, else one part without a name

    @property
    def body(self) -> str:
        """Fingerprint of the body."""
        return digest("\n".join(f"{name}\n{text}" for name, text in sorted(self.parts.items())))


class _Found(NamedTuple):
    """A statement, and the module it stands in."""

    module: Module
    node: ast.stmt


def find(modules: Modules, path: str) -> Symbol | None:
    """The symbol with this dotted path, imports and base classes followed; None if it is gone."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = modules.get(".".join(parts[:cut]))
        if module is not None:
            return _find(modules, module, parts[cut:])
    return None


def _find(modules: Modules, module: Module, names: list[str]) -> Symbol | None:
    found = _named(modules, module, names[0])
    if found is None:
        return None
    home = found.module.name
    for name in names[1:]:
        if not isinstance(found.node, ast.ClassDef):
            return None
        found = _member(modules, found, name)
        if found is None:
            return None
    return _symbol(modules, found, home)


def _named(modules: Modules, module: Module, name: str, hops: int = 8) -> _Found | None:
    """What a module calls `name`, at most `hops` imports away."""
    node = module.names.get(name)
    if node is None or (isinstance(node, ast.AnnAssign) and node.value is None):
        sources = [(star, name) for star in module.stars]
    elif isinstance(node, ast.ImportFrom):
        original = next(a.name for a in node.names if (a.asname or a.name) == name)
        sources = [(module.absolute(node), original)]
    elif isinstance(node, ast.Import):
        return None
    else:
        return _Found(module, node)
    for source, original in sources:
        target = modules.get(source) if hops else None
        found = target and _named(modules, target, original, hops - 1)
        if found:
            return found
    return None


def _bases(modules: Modules, found: _Found) -> Iterator[_Found]:
    for base in found.node.bases:
        if isinstance(base, ast.Subscript):  # Generic[T]
            base = base.value
        if isinstance(base, ast.Name):
            resolved = _named(modules, found.module, base.id)
            if resolved is not None and isinstance(resolved.node, ast.ClassDef):
                yield resolved


def _member(modules: Modules, found: _Found, name: str) -> _Found | None:
    """An attribute of a class, its own or the first that a base class has."""
    own = [node for node in found.node.body if name in bound_names(node)]
    if own:
        return _Found(found.module, own[-1])
    inherited = (_member(modules, base, name) for base in _bases(modules, found))
    return next((member for member in inherited if member), None)


def _symbol(modules: Modules, found: _Found, home: str) -> Symbol:
    node, source = found.node, found.module.source
    if isinstance(node, Function):
        return Symbol(home, _signature(node), {"": _body(node, source)})
    if isinstance(node, ast.ClassDef):
        return Symbol(home, _constructor(modules, found), dict(_members(node, source)))
    value = node.value
    # A literal is meant to change: __version__. What is built of other names is not.
    text = type(value).__name__ if isinstance(value, ast.Constant) else ast.unparse(value)
    return Symbol(home, "a value", {"": text})


def _signature(node: Function) -> str:
    marks = [f"@{ast.unparse(decorator)} " for decorator in node.decorator_list]
    kind = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{''.join(marks)}{kind}({ast.unparse(node.args)}){returns}"


def _constructor(modules: Modules, found: _Found) -> str:
    """How a class is called, `(a: int, b: str=x)`; of an enum, its members."""
    if any(_is_enum(base) for base in _lineage(modules, found)):
        return " ".join(n for node in found.node.body for n in bound_names(node) if _assigns(node))
    init = _member(modules, found, "__init__")
    if init is not None and isinstance(init.node, Function):
        arguments = ast.unparse(init.node.args)
        return f"({arguments.partition(', ')[2]})"  # without self
    fields: dict[str, str] = {}
    for owner in reversed(list(_lineage(modules, found))):
        for node in owner.node.body:
            if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation):
                fields[ast.unparse(node.target)] = ast.unparse(node)
    return f"({', '.join(fields.values())})"


def _lineage(modules: Modules, found: _Found) -> Iterator[_Found]:
    """The class, then its base classes."""
    yield found
    for base in _bases(modules, found):
        yield from _lineage(modules, base)


def _is_enum(found: _Found) -> bool:
    return any(ast.unparse(base).rpartition(".")[2] in _ENUMS for base in found.node.bases)


def _assigns(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign | ast.AnnAssign)


def _members(node: ast.ClassDef, source: str) -> Iterator[tuple[str, str]]:
    """(name, text) of what a class body holds; the base classes count as a member."""
    yield "bases", ", ".join(map(ast.unparse, node.bases))
    texts: dict[str, str] = {}
    for statement in _without_docstring(node.body):
        name = (bound_names(statement) or ["statements"])[0]
        if isinstance(statement, Function):
            text = f"{_signature(statement)}\n{_body(statement, source)}"
        else:
            text = ast.unparse(statement)
        texts[name] = texts.get(name, "") + text  # a property and its setter share a name
    yield from texts.items()


def _body(node: Function, source: str) -> str:
    """The statements as they are written, without docstring, comments and blank lines."""
    statements = _without_docstring(node.body)
    if not statements:
        return ""
    lines = source.splitlines(keepends=True)[statements[0].lineno - 1 : node.end_lineno]
    lines[0] = " " * statements[0].col_offset + lines[0][statements[0].col_offset :]
    return "\n".join(line for line in map(str.rstrip, _without_comments(lines)) if line)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body:
        case [ast.Expr(ast.Constant(str())), *rest]:
            return rest
    return body


def _without_comments(lines: list[str]) -> list[str]:
    # `if 1:` makes the indented block a program of its own, which the tokenizer wants.
    stream = io.StringIO("if 1:\n" + "".join(lines))
    kept = list(lines)
    for token in tokenize.generate_tokens(stream.readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start[0] - 2, token.start[1]
            kept[row] = lines[row][:column]
    return kept
