"""`llm42 doctor --against` tells what is gone, moved, changed in signature or body, and no more."""

import pkgutil
from itertools import chain
from pathlib import Path
from zipfile import ZipFile

import pytest

from llm42_sglang.cli import pip as pips
from llm42_sglang.cli.doctor import CHECKS
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.main import main
from llm42_sglang.cli.patching.diff import parse
from llm42_sglang.cli.patching.wheel import load_patches
from llm42_sglang.cli.upstream import compare, sources
from llm42_sglang.cli.upstream.symbols import Finder
from llm42_sglang.engine.launch import PINNED_SGLANG
from llm42_sglang.engine.seams import GPU_SEAMS, SEAMS, Seam, table

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
    "sglang/loop.py": LOOP,
    "sglang/parts/__init__.py": "from .base import *\nfrom .base import Base\n",
    "sglang/parts/base.py": BASE,
}
# Defined there, inherited, imported, imported with a star.
NAMES = ("Loop", "Loop.run", "Mode", "LIMIT", "KINDS", "Loop.ready", "helper")
SMALL = [Seam(f"sglang.loop.{name}", "", "test") for name in NAMES]
SMALL.append(Seam("sglang.parts.helper", "", "test"))
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
        archive.writestr(f"sglang-{version}.dist-info/METADATA", f"Version: {version}\n")
    return file


def changed(old: str, new: str) -> dict[str, str]:
    """FILES after a replacement in all of them."""
    assert any(old in text for text in FILES.values())
    return {path: text.replace(old, new) for path, text in FILES.items()}


def read(contents: dict[str, str]) -> sources.Sources:
    return sources.Sources("1", {path: text.encode() for path, text in contents.items()}.get)


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
        ("    @property\n", "", {"loop.Loop.ready": "signature"}),
        ("def ready", "def steady", {"loop.Loop.ready": "gone"}),
        ("return n\n", "return -n\n", {"loop.helper": "body", "parts.helper": "body"}),
    ],
)
def test_a_change_is_told_of_what_changed(old, new, expected):
    found = compare.compare(SMALL, read(FILES), read(changed(old, new)))
    verdicts = {one.seam.path: one.verdict.partition(" ")[0] for one in found}
    expected = {f"sglang.{name}": verdict for name, verdict in expected.items()}
    assert verdicts == {seam.path: "unchanged" for seam in SMALL} | expected


def test_a_function_that_is_only_imported_from_elsewhere_has_moved():
    """A hook on its old name would no longer be seen by whom it concerns."""
    other = {
        "sglang/parts/base.py": "from .other import helper\n",
        "sglang/parts/other.py": "def helper(n):\n    return n\n",
    }
    helper = Seam("sglang.parts.base.helper", "", "test")
    (found,) = compare.compare([helper], read(FILES), read(FILES | other))
    assert (found.verdict, found.details) == ("moved", ("to sglang.parts.other",))


def test_a_patch_applies_with_zero_fuzz_or_not():
    (diff,) = parse(PATCH)
    assert compare.complaint(diff, read(changed("return True", "return False"))) is None
    for old, new, line in (("return n\n", "return +n\n", 8), ("\nclass", "\n\nclass", 7)):
        told = compare.complaint(diff, read(changed(old, new)))
        assert told.startswith(f"sglang/parts/base.py: line {line} is not what")
    assert compare.complaint(diff, read({})) == "sglang/parts/base.py is gone"


def doctor(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_status:
        main(["doctor", *arguments])
    return exit_status.value.code


def test_the_status_tells_whether_anything_changed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "SEAMS", SMALL)
    monkeypatch.setattr(compare, "GPU_SEAMS", ())
    monkeypatch.setattr(compare, "installed", lambda: read(FILES))
    monkeypatch.setattr(compare, "load_patches", lambda: {"p": parse(PATCH)})
    assert doctor("--against", str(write(tmp_path, "2", FILES))) == 0
    assert "8 unchanged; 1 of 1 patches apply" in capsys.readouterr().out
    assert doctor("--against", str(write(tmp_path, "3", changed("+ 1", "+ 2")))) == 1
    assert doctor("--against", str(write(tmp_path, "4", changed("return n\n", "return n")))) == 1
    assert "8 unchanged; 0 of 1 patches apply" in capsys.readouterr().out


def test_the_installed_sglang_against_a_changed_copy_that_is_not_imported(tmp_path, capsys):
    mine, contents = sources.installed(), {}
    reading = mine._replace(read=lambda path: contents.setdefault(path, mine.read(path)))
    finder = Finder(reading)
    for seam in SEAMS:
        home, symbol = finder.find(seam.path).home, pkgutil.resolve_name(seam.path)
        if isinstance(symbol, type):  # a function may be wrapped, and a member inherited
            assert home == symbol.__module__
    assert all(finder.find(seam.path) for seam in GPU_SEAMS)
    for diff in chain(*load_patches().values()):
        reading.read(diff.path)
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
    assert f"sglang 9.9 against the installed {PINNED_SGLANG}" in said
    for verdict, name in (
        ("gone", "managers.scheduler.Scheduler.get_init_info"),
        ("signature changed", "managers.schedule_batch.Req.finished"),
        ("body changed", "sglang.launch_server.run_server"),
    ):
        assert name in said.split(f"{verdict}:\n")[1].split("\n\n")[0]
    assert "      + def finished(self, a) -> bool:\n" in said
    assert "04-server-flags.patch: does not apply" in said
    # Scheduler and Req have a changed member.
    counts = f"1 gone, 0 moved, 1 signature changed, 3 body changed, {len(SEAMS + GPU_SEAMS) - 5}"
    assert f"{counts} unchanged; 3 of 4 patches apply" in said


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
        sources.installed().read("sglang/version.py")


def test_the_stamp_of_what_is_installed_is_the_table(capsys):
    assert doctor("--stamp") == 0
    assert capsys.readouterr().out == table.TABLE


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("0.5.23; rm", "neither a version"),
        ("/no/such.whl", "cannot read /no/such.whl"),
        ("other.whl", "holds no sglang"),
        ("text.whl", "is not a wheel"),
    ],
)
def test_a_bad_version_or_file_is_one_line_and_status_2(tmp_path, monkeypatch, capsys, named, told):
    monkeypatch.chdir(tmp_path)
    Path("text.whl").write_text("hello")
    ZipFile("other.whl", "w").close()
    assert doctor("--against", named) == 2
    error = capsys.readouterr().err
    assert told in error and error.startswith("llm42: error: ") and error.count("\n") == 1


def test_a_version_is_downloaded_once_and_the_latest_every_time(tmp_path, monkeypatch, capsys):
    """With a pip in this Python's place that has version 1.1 only."""
    monkeypatch.setenv("LLM42_CACHE", str(tmp_path / "cache"))
    made, calls, script = write(tmp_path, "1.1", FILES), tmp_path / "calls", tmp_path / "pip"
    script.write_text(
        "#!/bin/sh\n"
        f'echo "$4" >>{calls}\n'
        'case "$4" in\n'
        f'    sglang | sglang==1.1) cp {made} "$6" ;;\n'
        '    *) echo "ERROR: No matching distribution found" >&2; exit 1 ;;\n'
        "esac\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(pips.sys, "executable", str(script))
    asked = {sources.wheel_file(named) for named in ("1.1", "1.1", "latest", "latest")}
    assert asked == {tmp_path / "cache/wheels/sglang-1.1-py3-none-any.whl"}
    assert calls.read_text().split() == ["sglang==1.1", "sglang", "sglang"]
    assert doctor("--against", "7.0") == 2
    error = capsys.readouterr().err
    assert "pip cannot download sglang==7.0: No matching distribution found;" in error
    assert error.count("\n") == 1
