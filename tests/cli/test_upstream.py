"""`llm42 doctor --against` tells what is gone, moved, changed in signature or body, and no more."""

import pkgutil
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from llm42_sglang.cli import pip as pips
from llm42_sglang.cli.doctor import CHECKS
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.main import main
from llm42_sglang.cli.patching import series
from llm42_sglang.cli.patching.diff import parse
from llm42_sglang.cli.upstream import sources
from llm42_sglang.cli.upstream.compare import compare, complaint
from llm42_sglang.cli.upstream.symbols import Finder
from llm42_sglang.engine.launch import PINNED_SGLANG
from llm42_sglang.engine.seams import GPU_SEAMS, SEAMS, Seam, table

ALL = (*SEAMS, *GPU_SEAMS)
LOOP = '''
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

    def run(self, batch: int, kinds: dict[str, int]) -> int:
        """One step."""
        # a step
        return batch + 1  # and on

    async def stop(self):
        pass
'''
BASE = """
class Base:
    @property
    def ready(self):
        return True

    def idle(self, seconds=1):
        return seconds

def helper(n):
    return n
"""
FILES = {
    "sglang/__init__.py": "",
    "sglang/loop.py": LOOP,
    "sglang/parts/__init__.py": "from .base import *\nfrom .base import Base\n",
    "sglang/parts/base.py": BASE,
}
LOOPS = ("Loop", "Loop.run", "Loop.stop", "Mode", "Plan", "LIMIT", "KINDS")
OTHERS = ("Loop.idle", "Loop.ready", "helper")  # inherited, and imported
PATHS = (*(f"sglang.loop.{name}" for name in LOOPS + OTHERS), "sglang.parts.helper")  # with a star
SMALL = tuple(Seam(path, "", "test") for path in PATHS)


def write(folder: Path, version: str, contents: dict[str, str | bytes]) -> Path:
    """A wheel with these files."""
    file = folder / f"sglang-{version}-py3-none-any.whl"
    with ZipFile(file, "w") as archive:
        for path, content in contents.items():
            archive.writestr(path, content)
        archive.writestr(f"sglang-{version}.dist-info/METADATA", f"Version: {version}\n")
    return file


def small(folder: Path, old: str = "", new: str = "") -> sources.Sources:
    """FILES, read from a wheel, after a replacement in all of them."""
    assert old == "" or any(old in text for text in FILES.values())
    contents = {path: text.replace(old, new) if old else text for path, text in FILES.items()}
    return sources.in_wheel(write(folder, "1.1", contents))


def verdicts(folder: Path, old: str = "", new: str = "") -> dict[str, str]:
    """By symbol, all that is not unchanged."""
    mine = small(folder)
    (folder / "other").mkdir()
    found = compare(SMALL, mine, small(folder / "other", old, new))
    return {
        comparison.seam.path.removeprefix("sglang."): comparison.verdict.value.partition(" ")[0]
        for comparison in found
        if comparison.verdict.value != "unchanged"
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ('"""One step."""', '"""A step,\n\n        # as ever.\n        """'),
        ("        # a step\n", "\n\n        # no step\n"),
        ("LIMIT = 3", "LIMIT = 4"),  # as __version__
        ("import enum\n", "import enum, os\n\n\n"),
    ],
)
def test_comments_docstrings_layout_and_literals_are_no_change(tmp_path, old, new):
    assert verdicts(tmp_path, old, new) == {}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("def run", "def go", {"loop.Loop": "body", "loop.Loop.run": "gone"}),
        ("class Mode", "class Kind", {"loop.Mode": "gone"}),
        ("KINDS =", "KIND =", {"loop.KINDS": "gone"}),
        ("helper(LIMIT)", "helper(4)", {"loop.KINDS": "body"}),
        ("self, batch", "self, m, batch", {"loop.Loop": "body", "loop.Loop.run": "signature"}),
        ("-> int", "-> list[int]", {"loop.Loop": "body", "loop.Loop.run": "signature"}),
        ("async def", "def", {"loop.Loop": "body", "loop.Loop.stop": "signature"}),
        ("port: int = 1", "port: int = 2", {"loop.Loop": "signature"}),
        ("DECODE = 2", "DECODE = 2\n    MIXED = 3", {"loop.Mode": "signature"}),
        ("batch: int\n", "batch: int\n    more: int\n", {"loop.Plan": "signature"}),
        ("batch + 1", "batch + 2", {"loop.Loop": "body", "loop.Loop.run": "body"}),
        ("return seconds", "return -seconds", {"loop.Loop.idle": "body"}),
        ("seconds=1", "seconds=2", {"loop.Loop.idle": "signature"}),
        ("    @property\n", "", {"loop.Loop.ready": "signature"}),
        ("def ready", "def steady", {"loop.Loop.ready": "gone"}),
        ("return n\n", "return -n\n", {"loop.helper": "body", "parts.helper": "body"}),
    ],
)
def test_a_change_is_told_of_what_changed(tmp_path, old, new, expected):
    assert verdicts(tmp_path, old, new) == expected


def test_a_function_that_is_only_imported_from_elsewhere_has_moved(tmp_path):
    """A hook on its old name would no longer be seen by whom it concerns."""
    moved = "from .other import helper\n" + BASE.partition("def helper")[0]
    helper = {"sglang/parts/base.py": moved, "sglang/parts/other.py": "def helper(n):\n return n\n"}
    other = sources.in_wheel(write(tmp_path, "9", FILES | helper))
    (found,) = compare([Seam("sglang.parts.base.helper", "", "test")], small(tmp_path), other)
    assert (found.verdict.value, found.details) == ("moved", ("to sglang.parts.other",))


PATCH = b"""--- a/sglang/parts/base.py
+++ b/sglang/parts/base.py
@@ -10,2 +10,3 @@
 def helper(n):
-    return n
+    n += 1
+    return n
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("seconds=1", "seconds=2", None),
        ("    return n\n", "    return +n\n", "sglang/parts/base.py: line 11 is not what"),
        ("\nclass Base", "\n\nclass Base", "sglang/parts/base.py: line 10 is not what"),
    ],
)
def test_a_patch_applies_with_zero_fuzz_or_not(tmp_path, old, new, told):
    (diff,) = parse(PATCH)
    found = complaint(diff, small(tmp_path, old, new))
    assert found is None if told is None else found.startswith(told)


def test_a_patch_on_a_file_that_is_gone_does_not_apply():
    (diff,) = parse(PATCH)
    assert complaint(diff, sources.Sources("2", {}.get)) == "sglang/parts/base.py is gone"


# The installed SGLang, and copies of it.


@pytest.fixture(scope="module")
def shipped() -> dict[str, bytes]:
    """Every file of the installed sglang that a comparison reads, as shipped."""
    mine, read = sources.installed(), {}

    def remember(path: str) -> bytes | None:
        content = mine.read(path)
        if content is not None:
            read[path] = content
        return content

    compare(ALL, mine._replace(read=remember), mine)
    return read | {diff.path: mine.read(diff.path) for p in series.load() for diff in p.diffs}


def doctor(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_status:
        main(["doctor", *arguments])
    return exit_status.value.code


def test_the_table_was_read_for_the_pinned_version(monkeypatch):
    """Whoever raises the pin reads `llm42 doctor --against` first, and says so (docs/bump.md)."""
    assert table.READ_FOR == PINNED_SGLANG
    assert CHECKS["seams"]().ok
    monkeypatch.setattr(table, "READ_FOR", "0.5.22")
    ok, detail = CHECKS["seams"]()
    assert not ok and "were read for sglang 0.5.22" in detail


def test_every_seam_is_found_where_an_import_finds_it():
    finder = Finder(sources.installed())
    assert all(finder.find(seam.path) for seam in ALL)
    for seam in SEAMS:
        symbol = pkgutil.resolve_name(seam.path)
        if isinstance(symbol, type):  # a function may be wrapped, and a member inherited
            assert finder.find(seam.path).home == symbol.__module__


def test_against_itself_nothing_changes_and_nothing_of_it_is_imported(shipped, tmp_path, capsys):
    broken = {**shipped, "sglang/__init__.py": b"raise SystemExit('imported')"}
    assert doctor("--against", str(write(tmp_path, PINNED_SGLANG, broken))) == 0
    said = capsys.readouterr().out
    assert f"sglang {PINNED_SGLANG} against the installed {PINNED_SGLANG}" in said
    assert f"{len(ALL)} seams" in said and f"{len(ALL)} unchanged" in said


def test_against_a_changed_copy_each_change_is_named(shipped, tmp_path, capsys):
    contents = dict(shipped)
    for path, old, new in (
        ("sglang/srt/managers/scheduler.py", b"def get_init_info(self)", b"def get_info(self)"),
        ("sglang/srt/managers/schedule_batch.py", b"def finished(self)", b"def finished(self, a)"),
        (
            "sglang/launch_server.py",
            b"run_server(server_args):",
            b"run_server(server_args):\n    1",
        ),
    ):
        assert old in contents[path]
        contents[path] = contents[path].replace(old, new)
    assert doctor("--against", str(write(tmp_path, "9.9", contents))) == 1
    said = capsys.readouterr().out
    for verdict, name in (
        ("gone", "managers.scheduler.Scheduler.get_init_info"),
        ("signature changed", "managers.schedule_batch.Req.finished"),
        ("body changed", "sglang.launch_server.run_server"),
    ):
        assert name in said.split(f"{verdict}:\n")[1].split("\n\n")[0]
    assert "      + self, a\n" in said
    assert "04-server-flags.patch: does not apply" in said
    assert "03-frontend-language.patch: applies" in said


def test_an_altered_file_is_refused(tmp_path, monkeypatch):
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
    ("named", "said"),
    [
        ("no-version", "neither a version"),
        ("0.5.23; rm", "neither a version"),
        ("/no/such.whl", "cannot read /no/such.whl"),
        ("other.whl", "holds no sglang"),
        ("text.whl", "is not a wheel"),
    ],
)
def test_a_bad_version_or_file_is_one_line_and_status_2(tmp_path, monkeypatch, capsys, named, said):
    monkeypatch.chdir(tmp_path)
    Path("text.whl").write_text("hello")
    ZipFile("other.whl", "w").close()
    assert doctor("--against", named) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("llm42: error: ") and error.count("\n") == 1


def test_a_version_is_downloaded_once_and_the_latest_every_time(tmp_path, monkeypatch, capsys):
    """With a pip in this Python's place that has version 1.1 only."""
    monkeypatch.setenv("LLM42_CACHE", str(tmp_path / "cache"))
    made, calls, script = write(tmp_path, "1.1", FILES), tmp_path / "calls", tmp_path / "pip"
    script.write_text(
        f"#!{sys.executable}\nimport shutil, sys\n"
        "wanted, folder = sys.argv[4], sys.argv[6]\n"
        f"open({str(calls)!r}, 'a').write(wanted + '\\n')\n"
        "if wanted not in ('sglang', 'sglang==1.1'):\n"
        "    sys.exit('WARNING: x\\nERROR: No matching distribution found\\nto upgrade: y')\n"
        f"shutil.copy({str(made)!r}, folder)\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(pips.sys, "executable", str(script))
    asked = [sources.wheel_file(named) for named in ("1.1", "1.1", "latest", "latest")]
    assert (
        {*asked}
        == {tmp_path / "cache/wheels/sglang-1.1-py3-none-any.whl"}
        == {*asked[0].parent.iterdir()}
    )
    assert calls.read_text().split() == ["sglang==1.1", "sglang", "sglang"]
    assert doctor("--against", "7.0") == 2
    error = capsys.readouterr().err
    assert "pip cannot download sglang==7.0: No matching distribution found;" in error
    assert error.count("\n") == 1
