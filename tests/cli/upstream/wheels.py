"""Small wheels of an sglang that never was."""

from pathlib import Path
from zipfile import ZipFile

from llm42_sglang.cli.upstream.modules import Modules, in_wheel

FILES = {
    "sglang/__init__.py": "",
    "sglang/loop.py": '''
import enum
from dataclasses import dataclass
from sglang.parts import Base, helper

LIMIT = 3
KINDS = helper(LIMIT)

class Mode(enum.Enum):
    PREFILL = 1
    DECODE = 2

@dataclass
class Plan:
    batch: int
    last: int | None = None

class Loop(Base):
    """Runs."""

    def __init__(self, args, port: int = 1):
        self.args = args

    def run(self, batch: int) -> int:
        """One step."""
        # a step
        return batch + 1  # and on

    async def stop(self):
        pass
''',
    "sglang/parts/__init__.py": "from .base import *\nfrom .base import Base\n",
    "sglang/parts/base.py": """
class Base:
    @property
    def ready(self):
        return True

    def idle(self, seconds=1):
        return seconds

def helper(n):
    return n
""",
}


def wheel(folder: Path, version: str = "1.1", **changes: tuple[str, str]) -> Path:
    """A wheel with FILES, after replacing (old, new) in `loop` or `base`."""
    contents = dict(FILES)
    for name, (old, new) in changes.items():
        path = {"loop": "sglang/loop.py", "base": "sglang/parts/base.py"}[name]
        assert old in contents[path], f"{old!r} is not in {path}"
        contents[path] = contents[path].replace(old, new)
    return write(folder, version, contents)


def write(folder: Path, version: str, contents: dict[str, str | bytes]) -> Path:
    """A wheel with these files."""
    file = folder / f"sglang-{version}-py3-none-any.whl"
    with ZipFile(file, "w") as archive:
        for path, content in contents.items():
            archive.writestr(path, content)
        archive.writestr(f"sglang-{version}.dist-info/METADATA", f"Version: {version}\n")
    return file


def modules(folder: Path, version: str = "1.1", **changes: tuple[str, str]) -> Modules:
    """The same, read."""
    return in_wheel(wheel(folder, version, **changes))
