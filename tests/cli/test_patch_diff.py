"""Zero fuzz: a diff applies to exactly what it was made from. And the series is well formed."""

import re

import pytest

from llm42_sglang.cli.patching import series
from llm42_sglang.cli.patching.diff import Mismatch, parse

OLD = b"one\ntwo\nthree\nfour\nfive\nsix\n"
NEW = b"zero\none\ntwo\nthree\nfour\nsix\n"
PATCH = b"""Description: what stands before the first file is not looked at
--- a/pkg/file.py
+++ b/pkg/file.py
@@ -1,2 +1,3 @@
+zero
 one
 two
@@ -4,3 +5,2 @@ with a heading
 four
-five
 six
"""
HEADER = ("Description", "Hook", "Author", "Forwarded", "Drop-When", "Test")


def test_there_and_back():
    (diff,) = parse(PATCH)
    assert diff.path == "pkg/file.py"
    assert diff.apply(OLD) == NEW
    assert diff.revert(NEW) == OLD


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"\n" + OLD, 1),  # an offset of one
        (OLD.replace(b"six", b"six "), 6),  # trailing space
        (OLD.replace(b"two\n", b"two\r\n"), 2),
        (OLD[:-1], 6),  # no newline at the end
        (OLD[:-4], 6),
        (NEW, 1),  # applied already
        (b"", 1),
    ],
)
def test_anything_else_is_a_mismatch(content, line):
    (diff,) = parse(PATCH)
    with pytest.raises(Mismatch) as error:
        diff.apply(content)
    assert error.value.line == line


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        (b"@@ -1,2 +1,3 @@", b"@@ -1,3 +1,3 @@"),  # states more lines than there are
        (b"@@ -1,2 +1,3 @@", b"@@ -1,1 +1,2 @@"),  # and less
        (b"@@ -1,2 +1,3 @@", b"@@ nonsense @@"),
        (b"+++ b/pkg/file.py", b"+++ b/pkg/other.py"),
        (b"--- a/pkg/file.py", b"--- pkg/file.py"),
        (b" two", b"two"),
        (b" six\n", b" six"),
        (PATCH[PATCH.index(b"---") :], b""),
    ],
)
def test_a_malformed_patch_is_refused(text, changed):
    assert text in PATCH
    with pytest.raises(ValueError):
        parse(PATCH.replace(text, changed, 1))


def test_series_and_files_are_one_to_one_and_no_file_is_in_two_patches():
    patches = series.load()
    names = [patch.name for patch in patches]
    assert sorted(names) == sorted(path.name for path in series.FOLDER.glob("*.patch")) != []
    paths = [diff.path for patch in patches for diff in patch.diffs]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("patch", [patch.name for patch in series.load()])
def test_a_patch_says_why_it_exists_and_what_tests_it(patch):
    header = (series.FOLDER / patch).read_text().partition("\n--- a/")[0]
    assert tuple(re.findall(r"^([\w-]+): \S", header, re.MULTILINE)) == HEADER
    path, _, test = header.rpartition("Test: ")[2].partition("::")
    assert f"def {test}(" in (series.FOLDER.resolve().parent / path).read_text()
