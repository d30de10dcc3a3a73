"""`llm42 patch` applies patches exactly, all or none, and reverts them to the same bytes.

The installed wheel is only read, whether it is patched or not. Copies of its files are changed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llm42_sglang.cli import doctor
from llm42_sglang.cli.patching import wheel
from llm42_sglang.cli.patching.diff import Mismatch
from llm42_sglang.engine.names import PINNED_SGLANG
from tests.cli.conftest import is_one_line

TARGET = "sglang/srt/sampling/sampling_params.py"  # of patch 01, so the first to be written
LAST = "sglang/launch_server.py"
ROOT = Path(__file__).parents[2]
NAMES = list(wheel.load_patches())
HEADER = ["Description", "Hook", "Author", "Forwarded", "Drop-When", "Test"]


def lay_out(folder: Path, patched: bool = False) -> Path:
    """The files that patches change, and the metadata of their wheel."""
    installed = wheel.find_wheel()
    for file in wheel.examine(installed):
        path = folder / file.path.relative_to(installed.root)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.patched if patched else file.shipped)
    metadata = f"sglang-{PINNED_SGLANG}.dist-info"
    shutil.copytree(installed.root / metadata, folder / metadata)
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return lay_out(tmp_path)


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def patch(llm42):
    """A function that runs `llm42 patch` on a folder."""
    return lambda command, root: llm42("patch", command, "--root", str(root))


@pytest.fixture
def refusal(patch):
    """A function that runs a command which must refuse and change nothing. It returns the line."""

    def run(command: str, root: Path) -> str:
        before = contents(root)
        status, _, message = patch(command, root)
        assert status == 1 and is_one_line(message) and contents(root) == before
        return message

    return run


def test_a_hunk_fits_to_the_byte_or_not_at_all(tmp_path):
    """This holds even if no RECORD shows that a file was altered."""
    diffs = {diff.path: diff for of_patch in wheel.load_patches().values() for diff in of_patch}
    diff, shipped = diffs[TARGET], (lay_out(tmp_path / "shipped") / TARGET).read_bytes()
    patched = (lay_out(tmp_path / "patched", patched=True) / TARGET).read_bytes()
    assert diff.apply(shipped) == patched != shipped == diff.revert(patched)
    for other in (
        b"\n" + shipped,  # an offset of one
        shipped.replace(b"(__name__)\n", b"(__name__) \n"),
        shipped.replace(b"\n", b"\r\n"),
        patched,
        b"",
    ):
        assert other != shipped
        with pytest.raises(Mismatch, match="is not"):
            diff.apply(other)


def test_the_series_is_well_formed_and_each_patch_says_why_it_exists_and_what_tests_it():
    assert sorted(NAMES) == sorted(path.name for path in wheel.PATCHES.glob("*.patch")) != []
    paths = [diff.path for diffs in wheel.load_patches().values() for diff in diffs]
    assert len(set(paths)) == len(paths)
    for name in NAMES:
        header = (wheel.PATCHES / name).read_text().partition("\n--- a/")[0]
        assert re.findall(r"^([\w-]+): \S", header, re.MULTILINE) == HEADER
        path, _, probe = header.rpartition("Test: ")[2].partition("::")
        assert f"def {probe}(" in (ROOT / path).read_text()


def test_apply_and_revert_are_inverse_and_twice_is_once(copy, monkeypatch, patch):
    monkeypatch.setattr(doctor, "find_wheel", lambda: wheel.find_wheel(copy))
    (copy / TARGET).chmod(0o640)
    before = contents(copy)
    for command, state in (("apply", "applied"), ("revert", "not applied")):
        assert patch(command, copy)[0] == 0
        after = contents(copy)
        status, message, _ = patch(command, copy)
        assert status == 0 and "nothing to do" in message
        assert contents(copy) == after and after.keys() == before.keys()
        assert patch("status", copy)[1].splitlines() == [f"{name}: {state}" for name in NAMES]
        ok, detail = doctor.CHECKS["patches"]()
        assert ok and detail.endswith(f": {state} (optional)")
        changed = {path for path in before if before[path] != after[path]}
        files = {copy / diff.path for diffs in wheel.load_patches().values() for diff in diffs}
        assert changed == (files if command == "apply" else set())
        assert (copy / TARGET).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("command", ["apply", "revert", "status"])
@pytest.mark.parametrize(
    "alter",
    [
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: content[:-1],
        lambda content: content.replace(b"    from", b"\tfrom", 1),
        lambda content: b"# a line more\n" + content,  # every hunk would fit, one line lower
    ],
)
def test_an_altered_file_is_refused_by_name(tmp_path, refusal, command, alter):
    for patched in (False, True):
        copy = lay_out(tmp_path / str(patched), patched)
        (copy / LAST).write_bytes(alter((copy / LAST).read_bytes()))
        message = refusal(command, copy)
        assert str(copy / LAST) in message and "altered" in message and wheel.REINSTALL in message


def test_what_is_not_the_wheel_is_refused(copy, tmp_path_factory, refusal):
    info = copy / f"sglang-{PINNED_SGLANG}.dist-info"
    metadata, record, last = info / "METADATA", info / "RECORD", copy / LAST
    for file, content, error in (
        (metadata, metadata.read_bytes().replace(PINNED_SGLANG.encode(), b"0.5.22"), "0.5.22"),
        (record, b"", "no record of"),
        (last, None, "cannot be read"),
    ):
        before = file.read_bytes()
        file.unlink() if content is None else file.write_bytes(content)
        assert error in refusal("apply", copy)
        file.write_bytes(before)
    assert "no sglang" in refusal("apply", tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize(
    ("call", "fails_at", "error", "status"),
    [
        ("fsync", 3, OSError(28, "No space"), 1),
        ("replace", 1, KeyboardInterrupt(), 130),
        ("replace", 9, OSError(28, "No space"), 1),
    ],
)
@pytest.mark.parametrize("command", ["apply", "revert"])
def test_an_interrupted_write_is_undone(
    tmp_path, monkeypatch, patch, command, call, fails_at, error, status
):
    copy = lay_out(tmp_path, patched=command == "revert")
    before, real, calls = contents(copy), getattr(os, call), []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == fails_at + 1:
            raise error
        real(*arguments)

    monkeypatch.setattr(os, call, failing)
    assert patch(command, copy)[0] == status
    assert len(calls) > fails_at and contents(copy) == before


def test_what_a_killed_process_left_is_seen_and_mended(copy, monkeypatch, patch, refusal):
    monkeypatch.setattr(doctor, "find_wheel", lambda: wheel.find_wheel(copy))
    before = contents(copy)
    patch("apply", copy)
    applied = contents(copy)
    for command, goal in (("apply", applied), ("revert", before)):
        (copy / TARGET).write_bytes(before[copy / TARGET])
        assert "only some files are patched" in refusal("status", copy)
        ok, detail = doctor.CHECKS["patches"]()
        assert not ok and "only some files are patched" in detail
        assert patch(command, copy)[0] == 0
        assert contents(copy) == goal


def test_what_patches_do_beside_serving_and_nothing_else_does(tmp_path):
    """`patch_probe.py` runs on the files as shipped, and as patched."""
    # No plugin is loaded, as the check of the seams would take seconds.
    env = {**os.environ, "PYTHONPATH": str(ROOT), "SGLANG_PLUGINS": "none"}
    probe = [sys.executable, Path(__file__).with_name("patch_probe.py")]
    shipped, patched = (
        json.loads(subprocess.check_output([*probe, folder], text=True, env=env).splitlines()[-1])
        for folder in (lay_out(tmp_path / "shipped"), lay_out(tmp_path / "patched", patched=True))
    )
    assert set(patched.values()) == {"passed"} and patched.keys() == shipped.keys()
    unknown = "argument 'deterministic'|no attribute 'serve_with_llm42'"
    assert all(re.search(unknown, message) for message in shipped.values()), shipped
