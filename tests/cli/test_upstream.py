"""`llm42 doctor --against` tells what is gone, moved, changed in signature or body, and no more."""

import pkgutil
from itertools import chain
from pathlib import Path
from zipfile import ZipFile

import pytest

from llm42_sglang.cli.doctor import CHECKS
from llm42_sglang.cli.main import main
from llm42_sglang.cli.patching.diff import parse
from llm42_sglang.cli.patching.wheel import load_patches
from llm42_sglang.cli.upstream import compare, sources
from llm42_sglang.cli.upstream.symbols import Finder
from llm42_sglang.engine.launch import PINNED_SGLANG
from llm42_sglang.engine.seams import GPU_SEAMS, SEAMS, Seam, table
from llm42_sglang.errors import UserError

LOOP = '''
import enum
from sglang.parts import Base, helper

LIMIT = 3
KINDS = helper(LIMIT)

class Mode(enum.Enum):
    PREFILL = 1

class Loop(Base):
    def __init__(self, args, port: int = 1):
        self.args = args

    def run(self, batch: int) -> int:
        """One step."""
        # a step
        return batch + 1  # and on
'''
BASE = """
class Base:
    @property
    def ready(self):
        return True

def helper(n):
    return n
"""
FILES = {
    "sglang/__init__.py": "raise SystemExit('imported')",
    "sglang/loop.py": LOOP,
    "sglang/parts/__init__.py": "from .base import *\nfrom .base import Base\n",
    "sglang/parts/base.py": BASE,
}
# Defined there, inherited, imported, imported with a star.
IN_LOOP = ("Loop", "Loop.run", "Mode", "LIMIT", "KINDS", "Loop.ready", "helper")
NAMES = [*(f"loop.{name}" for name in IN_LOOP), "parts.helper"]
HELPER = "\ndef helper(n):\n    return n\n"
IMPORT = "from .other import helper\n"
PATCH = b"""--- a/sglang/parts/base.py
+++ b/sglang/parts/base.py
@@ -7,2 +7,3 @@
 def helper(n):
-    return n
+    n += 1
+    return n
"""


def write(folder: Path, version: str, contents: dict) -> Path:
    """A wheel with these files."""
    file = folder / f"sglang-{version}-py3-none-any.whl"
    with ZipFile(file, "w") as archive:
        for path, content in contents.items():
            archive.writestr(path, content)
    return file


def changed(old: str, new: str) -> dict[str, str]:
    """FILES after a replacement in all of them."""
    assert any(old in text for text in FILES.values())
    return {path: text.replace(old, new) for path, text in FILES.items()}


def doctor(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_status:
        main(["doctor", *arguments])
    return exit_status.value.code


@pytest.fixture
def small(monkeypatch) -> None:
    """FILES are what is installed, PATCH is the only patch."""
    installed = {path: text.encode() for path, text in FILES.items()}
    monkeypatch.setattr(compare.sources, "installed", lambda: installed.get)
    monkeypatch.setattr(compare, "SEAMS", [Seam(f"sglang.{name}", "", "test") for name in NAMES])
    monkeypatch.setattr(compare, "GPU_SEAMS", ())
    monkeypatch.setattr(compare, "load_patches", lambda: {"p": parse(PATCH)})


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"""One step."""', '"""A step,\n\n        # as ever.\n        """', {}),
        ("        # a step\n", "\n\n        # no step\n", {}),
        ("LIMIT = 3", "LIMIT = 4", {}),  # as __version__
        ("def run", "def go", {"loop.Loop": "body", "loop.Loop.run": "gone"}),
        ("class Mode", "class Kind", {"loop.Mode": "gone"}),
        ("helper(LIMIT)", "helper(4)", {"loop.KINDS": "body"}),
        ("self, batch", "self, m, batch", {"loop.Loop": "body", "loop.Loop.run": "signature"}),
        ("-> int", "-> list[int]", {"loop.Loop": "body", "loop.Loop.run": "signature"}),
        ("port: int = 1", "port: int = 2", {"loop.Loop": "signature"}),
        ("PREFILL = 1", "PREFILL = 1\n    MIXED = 3", {"loop.Mode": "signature"}),
        ("batch + 1", "batch + 2", {"loop.Loop": "body", "loop.Loop.run": "body"}),
        ("return True", "return False", {"loop.Loop.ready": "body"}),
        ("    @property\n", "    # none\n", {"loop.Loop.ready": "signature"}),
        ("def ready", "def steady", {"loop.Loop.ready": "gone"}),
        ("return n\n", "return -n\n", {"loop.helper": "body", "parts.helper": "body", "p": 8}),
        ("return n\n", "return n", {"p": 8}),
        ("\nclass Base", "\n\nclass Base", {"p": 7}),
        # A hook on the old name would no longer be seen by whom it concerns.
        (HELPER, IMPORT, {"loop.helper": "moved", "parts.helper": "moved", "p": 7}),
    ],
)
def test_a_change_is_told_of_what_changed(small, tmp_path, capsys, old, new, expected):
    file = write(tmp_path, "2", changed(old, new) | {"sglang/parts/other.py": HELPER})
    assert doctor("--against", str(file)) == (1 if expected else 0)
    said = capsys.readouterr().out
    assert said.startswith(f"{file.name} against the installed sglang {PINNED_SGLANG}\n\n")
    *lists, sums = said.split("\n\n")[1:]
    found = {}
    for verdict, *rows in (text.splitlines() for text in lists):
        names = [row.split()[0] for row in rows if not row.startswith("   ")]
        found |= {name.removeprefix("sglang."): verdict.split()[0].strip(":") for name in names}
        if verdict == "moved:":
            assert rows.count("      to sglang.parts.other") == len(names)
    if line := expected.pop("p", None):
        assert found.pop("p:") == "patch"
        assert f"  p: sglang/parts/base.py: line {line} is not what" in lists[-1]
    assert found == expected and f"{len(NAMES) - len(found)} unchanged" in sums


def test_a_patched_file_that_is_gone_is_told(small, tmp_path, capsys):
    assert doctor("--against", str(write(tmp_path, "2", {"sglang/__init__.py": ""}))) == 1
    assert "  p: sglang/parts/base.py: line 7 is not what" in capsys.readouterr().out


def test_the_installed_sglang_against_a_changed_copy_that_is_not_imported(tmp_path, capsys):
    mine, contents = sources.installed(), {}
    finder = Finder(lambda path: contents.setdefault(path, mine(path)))
    for seam in SEAMS:
        home, symbol = finder.find(seam.path).home, pkgutil.resolve_name(seam.path)
        if isinstance(symbol, type):  # a function may be wrapped, and a member inherited
            assert home == symbol.__module__
    assert all(finder.find(seam.path) for seam in GPU_SEAMS)
    contents |= {diff.path: mine(diff.path) for diff in chain(*load_patches().values())}
    contents = {path: content for path, content in contents.items() if content is not None}
    for path, old, new in (
        ("sglang/srt/managers/scheduler.py", b"def get_init_info(self)", b"def get_info(self)"),
        ("sglang/srt/managers/schedule_batch.py", b"def finished(self)", b"def finished(self, a)"),
        ("sglang/launch_server.py", b"(server_args):\n", b"(server_args):\n    1\n"),
    ):
        assert old in contents[path]
        contents[path] = contents[path].replace(old, new)
    contents["sglang/__init__.py"] = b"raise SystemExit('imported')"
    assert doctor("--against", str(write(tmp_path, "9.9", contents))) == 1
    said = capsys.readouterr().out
    assert "gone:\n  sglang.srt.managers.scheduler.Scheduler.get_init_info  (" in said
    assert "signature changed:\n  sglang.srt.managers.schedule_batch.Req.finished  (" in said
    assert "      + def finished(self, a) -> bool:\n" in said
    unfit = "  04-server-flags.patch: sglang/launch_server.py: line "
    assert unfit in said.split("patch does not apply:\n")[1]
    # Scheduler and Req have a changed member.
    counts = "1 gone, 0 moved, 1 signature changed, 3 body changed, 1 patch does not apply"
    assert f"{counts}, {len(SEAMS + GPU_SEAMS) - 5} unchanged" in said


def test_a_table_read_for_another_version_or_an_altered_file_is_refused(tmp_path, monkeypatch):
    """Whoever raises the pin reads `llm42 doctor --against` first, and says so (docs/bump.md)."""
    with monkeypatch.context() as patch:
        patch.setattr(table, "READ_FOR", "0.5.22")
        ok, detail = CHECKS["seams"]()
        assert not ok and "were read for sglang 0.5.22" in detail
    wheel = sources.find_wheel()
    monkeypatch.setattr(sources, "find_wheel", lambda: wheel._replace(root=tmp_path))
    (tmp_path / "sglang").mkdir()
    (tmp_path / "sglang/version.py").write_text("")
    with pytest.raises(UserError, match=r"version\.py was altered"):
        sources.installed()("sglang/version.py")


def test_the_stamp_of_what_is_installed_is_the_table(capsys):
    assert doctor("--stamp") == 0
    assert capsys.readouterr().out == table.TABLE


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("0.5.23; rm", "neither a version, nor latest, nor a wheel file"),
        ("/no/such.whl", "cannot read /no/such.whl as a wheel: [Errno 2]"),
        ("other.whl", "holds no sglang"),
        ("text.whl", "cannot read text.whl as a wheel: File is not a zip file"),
    ],
)
def test_a_bad_version_or_file_is_one_line_and_status_2(tmp_path, monkeypatch, capsys, named, told):
    monkeypatch.chdir(tmp_path)
    Path("text.whl").write_text("hello")
    ZipFile("other.whl", "w").close()
    assert doctor("--against", named) == 2
    error = capsys.readouterr().err
    assert told in error and error.startswith("llm42: error: ") and error.count("\n") == 1


def test_a_version_and_the_latest_are_downloaded(monkeypatch):
    asked = []

    def download(wanted: str, folder: Path) -> Path:
        asked.append(wanted)
        return write(folder, "1.1", FILES)

    monkeypatch.setattr(sources, "download", download)
    for named in ("1.1", "latest"):
        file, contents = sources.other(named)
        assert file == "sglang-1.1-py3-none-any.whl" and contents("sglang/loop.py")
    assert asked == ["sglang==1.1", "sglang"]
