"""The modules of one SGLang, parsed and never imported."""

import ast
import platform
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.patching import series
from llm42_sglang.cli.patching.diff import Mismatch
from llm42_sglang.cli.patching.wheel import REINSTALL, find_wheel
from llm42_sglang.engine.launch import PINNED_SGLANG

# path relative to the folder that holds the package -> content, None if there is no such file
Read = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class Module:
    """One source file; `names` has what its top level binds, `stars` what it imports `*` from."""

    name: str
    is_package: bool
    source: str
    names: dict[str, ast.stmt] = field(default_factory=dict)
    stars: tuple[str, ...] = ()

    def absolute(self, node: ast.ImportFrom) -> str:
        """The module that a `from ... import` names."""
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        base = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*base, *([node.module] if node.module else [])])


class Modules:
    """All modules that `read` finds, each parsed once."""

    def __init__(self, read: Read, version: str):
        self.read = read
        self.version = version
        self._known: dict[str, Module | None] = {}

    def get(self, name: str) -> Module | None:
        """The module, or None if there is none of this name."""
        if name not in self._known:
            self._known[name] = self._parse(name)
        return self._known[name]

    def _parse(self, name: str) -> Module | None:
        stem = name.replace(".", "/")
        for path in (f"{stem}.py", f"{stem}/__init__.py"):
            content = self.read(path)
            if content is not None:
                try:
                    return _module(name, path.endswith("__init__.py"), content.decode())
                except SyntaxError as error:
                    python = platform.python_version()
                    raise UserError(
                        f"{path} of sglang {self.version} is not Python {python}: {error.msg}"
                    ) from None
        return None


def installed() -> Modules:
    """The installed sglang as its wheel shipped it, whether patched since or not.

    Raises UserError if it is not the pinned one, or a file is neither as shipped nor as patched.
    """
    wheel = find_wheel()
    diffs = {diff.path: diff for patch in series.load() for diff in patch.diffs}

    def read(path: str) -> bytes | None:
        file = wheel.root / path
        if not file.is_file():
            return None
        content = file.read_bytes()
        if wheel.shipped(path, content):
            return content
        with suppress(Mismatch, KeyError):
            shipped = diffs[path].revert(content)
            if wheel.shipped(path, shipped):
                return shipped
        raise UserError(f"{file} was altered by something else; {REINSTALL}")

    return Modules(read, PINNED_SGLANG)


def in_wheel(file: Path) -> Modules:
    """The sglang in a wheel file. Raises UserError if it holds none."""
    try:
        archive = ZipFile(file)
        members = {*archive.namelist()}
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    except BadZipFile:
        raise UserError(f"{file} is not a wheel") from None
    if "sglang/__init__.py" not in members:
        raise UserError(f"{file} holds no sglang; name a wheel of sglang, or a version")
    return Modules(lambda path: archive.read(path) if path in members else None, _version(members))


def _version(members: set[str]) -> str:
    """As the wheel's metadata folder says: `sglang-0.5.22.dist-info`."""
    folders = (member.partition("/")[0] for member in members)
    names = (name for name in folders if name.startswith("sglang-") and name.endswith(".dist-info"))
    return next(names, "sglang-unknown").removesuffix(".dist-info").removeprefix("sglang-")


def _module(name: str, is_package: bool, content: str) -> Module:
    module = Module(name, is_package, content)
    names: dict[str, ast.stmt] = {}
    stars = []
    for statement, certain in _statements(ast.parse(content).body):
        if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
            stars.append(module.absolute(statement))
        for bound in bound_names(statement):
            # Of alternatives the first counts: `try`, `if` and what stands under them.
            names[bound] = statement if certain else names.get(bound, statement)
    return Module(name, is_package, content, names, tuple(stars))


def _statements(body: list[ast.stmt], certain: bool = True) -> Iterator[tuple[ast.stmt, bool]]:
    """Statements of a block and of the branches in it; whether each runs for certain."""
    for statement in body:
        if isinstance(statement, ast.If | ast.Try):
            if "TYPE_CHECKING" in ast.unparse(getattr(statement, "test", ast.Constant(""))):
                continue
            branches = [statement.body, statement.orelse]
            branches += [handler.body for handler in getattr(statement, "handlers", ())]
            for branch in branches:
                yield from _statements(branch, certain=False)
        else:
            yield statement, certain


def bound_names(statement: ast.stmt) -> list[str]:
    """The names that a statement binds, by definition, assignment or import."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [statement.name]
        case ast.Assign():
            return [target.id for target in statement.targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(name)):
            return [name]
        case ast.ImportFrom() | ast.Import():
            return [alias.asname or alias.name for alias in statement.names]
    return []
