"""`llm42 doctor --against` tells what is gone, moved, changed in signature or body, and no more."""

import re
from itertools import chain
from pathlib import Path
from zipfile import ZipFile

import pytest

from llm42_sglang.cli.doctor import CHECKS
from llm42_sglang.cli.patching.diff import parse
from llm42_sglang.cli.patching.wheel import load_patches
from llm42_sglang.cli.upstream import compare, sources
from llm42_sglang.cli.upstream.compare import UNFIT
from llm42_sglang.cli.upstream.symbols import Finder
from llm42_sglang.engine.plugin import SEAMS
from llm42_sglang.engine.seam import Seam, seams_of
from llm42_sglang.engine.seams import signatures, table
from llm42_sglang.engine.seams.table import GPU_SEAMS
from tests.cli.conftest import is_one_line

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
        return batch + 1  # and on
'''
HELPER = "\ndef helper(n):\n    return n\n"
FILES = {
    "sglang/__init__.py": "raise SystemExit('imported')",
    "sglang/loop.py": LOOP,
    "sglang/parts/__init__.py": "from .base import *\nfrom .base import Base\n",
    "sglang/parts/base.py": "class Base:\n    def ready(self):\n        return True\n" + HELPER,
    "sglang/parts/other.py": HELPER,
}
# Defined there, inherited, imported, imported with a star.
ROWS = {"Loop", "Mode", "LIMIT", "KINDS", "helper"}
NAMES = ("Loop", "Loop.run", "Mode", "LIMIT", "KINDS", "Loop.ready", "helper")
PATCH = b"""--- a/sglang/parts/base.py
+++ b/sglang/parts/base.py
@@ -5,2 +5,3 @@
 def helper(n):
-    return n
+    n += 1
+    return n
"""


def write(folder: Path, contents: dict) -> Path:
    """A wheel with these files."""
    file = folder / "sglang-9.9-py3-none-any.whl"
    with ZipFile(file, "w") as archive:
        for path, content in contents.items():
            archive.writestr(path, content)
    return file


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"""One step."""', '"""A step.\n\n        """\n        # as ever', {}),
        ("LIMIT = 3", "LIMIT = 4", {}),  # as __version__
        ("def run", "def go", {"Loop": "gone", "run": "gone"}),
        ("class Mode", "class Kind", {"Mode": "gone"}),
        ("helper(LIMIT)", "helper(4)", {"KINDS": "body changed"}),
        ("self, batch", "self, m", {"Loop": "signature changed", "run": "signature changed"}),
        ("port: int = 1", "port: int = 2", {"Loop": "signature changed"}),
        ("PREFILL = 1", "PREFILL = 1\n    MIXED = 3", {"Mode": "signature changed"}),
        ("batch + 1", "batch + 2", {"Loop": "body changed", "run": "body changed"}),
        ("return True", "return False", {"Loop": "body changed", "ready": "body changed"}),
        ("def ready", "def steady", {"Loop": "gone", "ready": "gone"}),
        ("return n\n", "return -n\n", {"helper": "body changed", "p": UNFIT}),
        # A hook on the old name would no longer be seen by whom it concerns.
        (f"True\n{HELPER}", "True\nfrom .other import helper", {"helper": "moved", "p": UNFIT}),
    ],
)
def test_a_change_is_told_of_what_changed(tmp_path, monkeypatch, llm42, old, new, expected):
    installed = {path: text.encode() for path, text in FILES.items()}
    monkeypatch.setattr(compare.sources, "installed", lambda: installed.get)
    monkeypatch.setattr(compare, "SEAMS", [Seam(f"sglang.loop.{name}", "go") for name in NAMES])
    monkeypatch.setattr(compare, "GPU_SEAMS", ())
    monkeypatch.setattr(compare, "load_patches", lambda: {"p": parse(PATCH)})
    changed = {path: text.replace(old, new) for path, text in FILES.items()}
    assert changed != FILES
    status, said, _ = llm42("doctor", "--against", str(write(tmp_path, changed)))
    assert status == (1 if expected else 0)
    _, *lists, sums = said.split("\n\n")
    found = {}
    for verdict, _, rows in (told.partition(":\n") for told in lists):
        names = re.findall(r"^  (?:sglang\.loop\.)?([\w.]+)", rows, re.MULTILINE)
        members = re.findall(r"^      (run|ready): (.*)  \(", rows, re.MULTILINE)
        found |= dict.fromkeys(names, verdict) | dict(members)
    assert found == expected
    assert f"{len(ROWS - found.keys())} unchanged" in sums


def test_the_installed_sglang_against_a_changed_copy_that_is_not_imported(tmp_path, llm42):
    mine, contents = sources.installed(), {}
    finder = Finder(lambda path: contents.setdefault(path, mine(path)))
    seams = (*SEAMS, *GPU_SEAMS)
    assert all(finder.find(path) for seam in seams for path in (seam.path, seam.row))
    contents |= {diff.path: mine(diff.path) for diff in chain(*load_patches().values())}
    contents = {path: content for path, content in contents.items() if content is not None}
    for path, old, new in (
        ("sglang/srt/managers/schedule_batch.py", b"def finished(self)", b"def finished(self, a)"),
        ("sglang/launch_server.py", b"(server_args):\n", b"(server_args):\n    1\n"),
    ):
        assert old in contents[path]
        contents[path] = contents[path].replace(old, new)
    contents["sglang/__init__.py"] = b"raise SystemExit('imported')"
    status, said, _ = llm42("doctor", "--against", str(write(tmp_path, contents)))
    assert status == 1
    assert "signature changed:\n  sglang.srt.managers.schedule_batch.Req\n" in said
    assert "      finished: signature changed  (" in said
    assert "      + def finished(self, a) -> bool:\n" in said
    unfit = "  04-server-flags.patch: sglang/launch_server.py: line "
    assert unfit in said.split("patch does not apply:\n")[1]
    counts = "1 signature changed, 1 body changed, 1 patch does not apply"
    assert f"{counts}, {len({seam.row for seam in seams}) - 2} unchanged" in said


def test_a_row_has_the_worst_verdict_of_its_symbols():
    changed = LOOP.replace("self, batch", "self, m")
    base = FILES["sglang/parts/base.py"].replace("ready", "steady")
    others = FILES | {"sglang/loop.py": changed, "sglang/parts/base.py": base}
    ours, theirs = (Finder(lambda path, of=of: of.get(path)) for of in (FILES, others))

    def told(notation: str) -> list[str]:
        return compare.compare_row("sglang.loop.Loop", seams_of(notation, "go"), ours, theirs)

    assert told("sglang.loop.Loop{run,ready}") == [
        *("gone", "  sglang.loop.Loop", "Loop: body changed  (go)", "changed in run"),
        *("run: signature changed  (go)", "- def run(self, batch: int) -> int:"),
        *("+ def run(self, m: int) -> int:", "ready: gone  (go)"),
    ]
    assert told("sglang.loop.Loop.run")[:2] == ["signature changed", "  sglang.loop.Loop"]
    assert told("sglang.loop.Loop")[:2] == ["body changed", "  sglang.loop.Loop  (go)"]


def test_a_table_that_was_read_for_another_version_is_told(monkeypatch):
    """Whoever raises the pin reads `llm42 doctor --against` first, and says so (docs/bump.md)."""
    monkeypatch.setattr(table, "READ_FOR", "0.5.22")
    ok, detail = CHECKS["seams"]()
    assert not ok and "were read for sglang 0.5.22" in detail


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("0.5.23; rm", "neither a version, nor latest, nor a wheel file"),
        ("/no/such.whl", "cannot read /no/such.whl as a wheel: [Errno 2]"),
        ("other.whl", "holds no sglang"),
    ],
)
def test_a_bad_version_or_file_is_one_line_and_status_2(tmp_path, monkeypatch, llm42, named, told):
    monkeypatch.chdir(tmp_path)
    ZipFile("other.whl", "w").close()
    status, _, said = llm42("doctor", "--against", named)
    assert status == 2 and told in said and is_one_line(said)


def test_the_stamp_of_what_is_installed_is_the_file(tmp_path, monkeypatch, llm42):
    shipped, file = signatures.FILE.read_text(), tmp_path / "signatures.txt"
    file.write_text(shipped)
    monkeypatch.setattr(signatures, "FILE", file)
    assert llm42("doctor", "--stamp") == (0, "", "")
    assert file.read_text() == shipped
    first, second, *rest = shipped.splitlines(keepends=True)
    path, fingerprint = second.split()
    file.write_text("".join([f"gone.since {fingerprint}\n", f"{path} 00000000\n", *rest]))
    status, said, _ = llm42("doctor", "--stamp")
    assert status == 0 and file.read_text() == shipped
    name, added = first.split()
    assert f"{path}: 00000000 -> {fingerprint}\n" in said
    assert f"{name}: none -> {added}\n" in said and f"gone.since: {fingerprint} -> none\n" in said


@pytest.mark.parametrize(
    ("known", "patched", "now"),
    [
        ((), False, ("new",)),
        ((), True, ("new",)),
        (("old",), False, ("new",)),
        (("old",), True, ("old", "new")),
        (("old", "other"), False, ("new", "other")),
        (("old", "other"), True, ("old", "new")),
        (("new",), True, ("new",)),
        (("new", "other"), True, ("new",)),
    ],
)
def test_of_two_signatures_the_installed_one_is_measured(monkeypatch, known, patched, now):
    """The other one stays: patches change it, or do not any more."""
    monkeypatch.setattr(signatures, "_now", lambda path: "new")
    assert signatures.measured([Seam("a.f", "")], {"a.f": known}, patched) == {"a.f": now}
