"""What is gone, moved, changed in signature or body is told, and nothing else is."""

from pathlib import Path

import pytest

from llm42_sglang.cli.patching.diff import parse
from llm42_sglang.cli.patching.series import Patch
from llm42_sglang.cli.upstream.compare import Comparison, Verdict, compare, try_patches
from llm42_sglang.cli.upstream.modules import in_wheel
from llm42_sglang.engine.seams import Seam
from tests.cli.upstream.wheels import FILES, modules, wheel, write

SYMBOLS = (
    "sglang.loop.Loop",
    "sglang.loop.Loop.run",
    "sglang.loop.Loop.stop",
    "sglang.loop.Loop.idle",  # inherited
    "sglang.loop.Loop.ready",
    "sglang.loop.Mode",
    "sglang.loop.Plan",
    "sglang.loop.LIMIT",
    "sglang.loop.KINDS",
    "sglang.loop.helper",  # imported
    "sglang.parts.helper",  # imported with a star
)
SEAMS = tuple(Seam(path, "", "test") for path in SYMBOLS)


def changed(folder: Path, **changes: tuple[str, str]) -> dict[str, Comparison]:
    """By symbol, all that is not unchanged."""
    (folder / "other").mkdir()
    found = compare(SEAMS, modules(folder, "1.0"), modules(folder / "other", **changes))
    return {
        comparison.seam.path.removeprefix("sglang."): comparison
        for comparison in found
        if comparison.verdict is not Verdict.SAME
    }


def verdicts(folder: Path, **changes: tuple[str, str]) -> dict[str, Verdict]:
    return {path: comparison.verdict for path, comparison in changed(folder, **changes).items()}


def test_the_same_wheel_is_unchanged(tmp_path):
    assert verdicts(tmp_path) == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""One step."""', '"""A step,\n\n        # as ever.\n        """'),
        ("        # a step\n", "\n\n        # no step\n"),
        ("  # and on", ""),
        ("LIMIT = 3", "LIMIT = 4"),  # as __version__
        ("import enum\n", "import enum, os\n\n\n"),
    ],
)
def test_comments_docstrings_blank_lines_and_literals_are_no_change(tmp_path, old, new):
    assert verdicts(tmp_path, loop=(old, new)) == {}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("def run", "def go", {"loop.Loop": Verdict.BODY, "loop.Loop.run": Verdict.GONE}),
        ("class Mode", "class Kind", {"loop.Mode": Verdict.GONE}),
        ("KINDS =", "KIND =", {"loop.KINDS": Verdict.GONE}),
        ("helper(LIMIT)", "helper(4)", {"loop.KINDS": Verdict.BODY}),
        (
            "batch: int) -> int",
            "batch: int, more=0) -> int",
            {"loop.Loop": Verdict.BODY, "loop.Loop.run": Verdict.SIGNATURE},
        ),
        (
            "batch: int) -> int",
            "batch: int) -> list[int]",
            {"loop.Loop": Verdict.BODY, "loop.Loop.run": Verdict.SIGNATURE},
        ),
        (
            "async def stop",
            "def stop",
            {"loop.Loop": Verdict.BODY, "loop.Loop.stop": Verdict.SIGNATURE},
        ),
        ("port: int = 1", "port: int = 2", {"loop.Loop": Verdict.SIGNATURE}),
        ("DECODE = 2", "DECODE = 2\n    MIXED = 3", {"loop.Mode": Verdict.SIGNATURE}),
        ("DECODE = 2", "DECODE = 4", {"loop.Mode": Verdict.BODY}),
        ("batch: int\n", "batch: int\n    more: int\n", {"loop.Plan": Verdict.SIGNATURE}),
        (
            "return batch + 1",
            "return batch + 2",
            {"loop.Loop": Verdict.BODY, "loop.Loop.run": Verdict.BODY},
        ),
        ("self.args = args", "self.args = (args,)", {"loop.Loop": Verdict.BODY}),
    ],
)
def test_a_change_is_told_of_what_changed(tmp_path, old, new, expected):
    assert verdicts(tmp_path, loop=(old, new)) == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("return seconds", "return 2 * seconds", {"loop.Loop.idle": Verdict.BODY}),
        ("seconds=1", "seconds=2", {"loop.Loop.idle": Verdict.SIGNATURE}),
        ("    @property\n", "", {"loop.Loop.ready": Verdict.SIGNATURE}),
        ("def ready", "def steady", {"loop.Loop.ready": Verdict.GONE}),
        (
            "def helper(n):\n    return n",
            "def helper(n):\n    return -n",
            {"loop.helper": Verdict.BODY, "parts.helper": Verdict.BODY},
        ),
    ],
)
def test_imports_and_base_classes_are_followed(tmp_path, old, new, expected):
    assert verdicts(tmp_path, base=(old, new)) == expected


def test_a_function_that_is_only_imported_from_elsewhere_has_moved(tmp_path):
    """A hook on its old name would no longer be seen by whom it concerns."""
    contents = dict(FILES)
    contents["sglang/parts/other.py"] = "def helper(n):\n    return n\n"
    contents["sglang/parts/base.py"] = "from .other import helper\n" + FILES[
        "sglang/parts/base.py"
    ].replace("def helper(n):\n    return n\n", "")
    other = in_wheel(write(tmp_path, "1.1", contents))
    seam = Seam("sglang.parts.base.helper", "", "test")
    (tmp_path / "mine").mkdir()
    (found,) = compare([seam], modules(tmp_path / "mine"), other)
    assert (found.verdict, found.details) == (Verdict.MOVED, ("to sglang.parts.other",))


def test_details_say_which_argument_and_which_member(tmp_path):
    found = changed(tmp_path, loop=("batch: int) -> int", "batch: int, more=0) -> int"))
    assert found["loop.Loop.run"].details == ("+ more=0",)
    assert found["loop.Loop"].details == ("changed in run",)


def test_a_seam_that_the_own_wheel_lacks_is_our_bug(tmp_path):
    mine = modules(tmp_path)
    with pytest.raises(KeyError, match=r"sglang\.loop\.nothing"):
        compare([Seam("sglang.loop.nothing", "", "test")], mine, mine)


PATCH = b"""--- a/sglang/parts/base.py
+++ b/sglang/parts/base.py
@@ -10,2 +10,3 @@
 def helper(n):
-    return n
+    n += 1
+    return n
"""


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("seconds=1", "seconds=2"), None),
        (("    return n", "    return +n"), "line 11 is not what"),
        (("\nclass Base", "\n\nclass Base"), "line 10 is not what"),  # would fit a line lower
    ],
)
def test_a_patch_applies_with_zero_fuzz_or_not(tmp_path, change, complaint):
    (trial,) = try_patches([Patch("p", parse(PATCH))], in_wheel(wheel(tmp_path, base=change)))
    assert bool(trial.complaints) == (complaint is not None)
    assert all(complaint in said for said in trial.complaints)


def test_a_patch_on_a_file_that_is_gone_does_not_apply(tmp_path):
    other = in_wheel(write(tmp_path, "1.1", {"sglang/__init__.py": ""}))
    (trial,) = try_patches([Patch("p", parse(PATCH))], other)
    assert trial.complaints == ("sglang/parts/base.py is gone",)
