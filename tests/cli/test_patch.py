"""`llm42 patch` on a copy of the wheel's files: all or nothing, and back byte by byte."""

import os
import shutil
from pathlib import Path

import pytest

from llm42_sglang.cli import doctor
from llm42_sglang.cli.main import main
from llm42_sglang.cli.patching import series, wheel
from llm42_sglang.cli.patching.files import Change, replace_all
from llm42_sglang.engine.launch import PINNED_SGLANG

TARGET = "sglang/srt/sampling/sampling_params.py"  # of patch 01, so the first to be written
LAST = "sglang/launch_server.py"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that patches change, as shipped, and the metadata of their wheel."""
    installed = wheel.find_wheel()
    for files in wheel.examine(installed, series.load()).values():
        for file in files:
            path = tmp_path / file.path.relative_to(installed.root)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.shipped)
    metadata = f"sglang-{PINNED_SGLANG}.dist-info"
    shutil.copytree(installed.root / metadata, tmp_path / metadata)
    return tmp_path


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def patch(command: str, root: Path) -> int:
    with pytest.raises(SystemExit) as exit_status:
        main(["patch", command, "--root", str(root)])
    return exit_status.value.code


def refusal(command: str, root: Path, capsys) -> str:
    """The one line with which the command refused, having changed nothing."""
    before = contents(root)
    capsys.readouterr()
    assert patch(command, root) == 1
    assert contents(root) == before
    said = capsys.readouterr().err
    assert said.startswith("llm42: error: ") and said.count("\n") == 1
    return said


def test_apply_and_revert_are_inverse_and_leave_nothing_behind(copy, capsys):
    before = contents(copy)
    assert patch("apply", copy) == 0
    after = contents(copy)
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {copy / diff.path for p in series.load() for diff in p.diffs}
    assert after.keys() == before.keys()
    assert patch("revert", copy) == 0
    assert contents(copy) == before


@pytest.mark.parametrize("command", ["apply", "revert"])
def test_twice_is_once(copy, capsys, command):
    patch("apply", copy)
    patch(command, copy)
    before = contents(copy)
    capsys.readouterr()
    assert patch(command, copy) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert contents(copy) == before


def test_a_file_keeps_its_mode(copy):
    (copy / TARGET).chmod(0o640)
    patch("apply", copy)
    assert (copy / TARGET).stat().st_mode & 0o777 == 0o640


def test_status_tells_each_patch(copy, capsys):
    assert patch("status", copy) == 0
    names = [p.name for p in series.load()]
    assert capsys.readouterr().out.splitlines() == [f"{name}: not applied" for name in names]
    patch("apply", copy)
    capsys.readouterr()
    assert patch("status", copy) == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}: applied" for name in names]


@pytest.mark.parametrize(
    ("command", "patched"),
    [("apply", False), ("apply", True), ("revert", True), ("status", False)],
)
@pytest.mark.parametrize(
    "alter",
    [
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: content + b"\n",
        lambda content: content[:-1],
        lambda content: content.replace(b"    from", b"\tfrom", 1),
        lambda content: b"# a line more\n" + content,  # every hunk would fit, one line lower
    ],
)
def test_an_altered_file_is_refused_by_name(copy, capsys, command, patched, alter):
    if patched:
        patch("apply", copy)
    (copy / LAST).write_bytes(alter((copy / LAST).read_bytes()))
    said = refusal(command, copy, capsys)
    assert str(copy / LAST) in said
    assert "altered" in said and wheel.REINSTALL in said


def test_what_is_not_the_wheel_is_refused(copy, tmp_path_factory, capsys):
    info = copy / f"sglang-{PINNED_SGLANG}.dist-info"
    metadata, record, last = info / "METADATA", info / "RECORD", copy / LAST
    for file, content, told in (
        (metadata, metadata.read_bytes().replace(PINNED_SGLANG.encode(), b"0.5.22"), "0.5.22"),
        (record, b"", "no record of"),
        (last, None, "cannot be read"),
    ):
        before = file.read_bytes()
        file.unlink() if content is None else file.write_bytes(content)
        assert told in refusal("apply", copy, capsys)
        file.write_bytes(before)
    assert "no sglang" in refusal("apply", tmp_path_factory.mktemp("empty"), capsys)


@pytest.mark.parametrize(
    ("fails_at", "error"),
    [
        (0, OSError(28, "No space left")),
        (1, KeyboardInterrupt()),
        (9, OSError(28, "No space left")),
    ],
)
@pytest.mark.parametrize("command", ["apply", "revert"])
def test_an_interrupted_write_is_undone(copy, capsys, monkeypatch, command, fails_at, error):
    if command == "revert":
        patch("apply", copy)
    before = contents(copy)
    replace, renames = os.replace, []

    def failing(source, target):
        renames.append(target)
        if len(renames) == fails_at + 1:
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    assert patch(command, copy) == (1 if isinstance(error, OSError) else 130)
    assert len(renames) > fails_at
    assert contents(copy) == before


def test_what_a_killed_process_left_is_seen_and_mended(copy, capsys):
    before = contents(copy)
    patch("apply", copy)
    applied = contents(copy)
    (copy / TARGET).write_bytes(before[copy / TARGET])
    assert "only some files are patched" in refusal("status", copy, capsys)
    assert patch("apply", copy) == 0
    assert contents(copy) == applied
    (copy / TARGET).write_bytes(before[copy / TARGET])
    assert patch("revert", copy) == 0
    assert contents(copy) == before


def test_a_folder_that_cannot_be_written_is_left_alone(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"old")
    missing = tmp_path / "nowhere" / "file"
    with pytest.raises(OSError, match="nowhere"):
        replace_all([Change(file, b"old", b"new"), Change(missing, b"", b"new")])
    assert contents(tmp_path) == {file: b"old"}


@pytest.mark.parametrize(
    ("states", "ok", "told"),
    [
        ([wheel.State.PRISTINE, wheel.State.PRISTINE], True, "not applied (optional)"),
        ([wheel.State.PATCHED, wheel.State.PATCHED], True, "applied"),
        ([wheel.State.PATCHED, wheel.State.PRISTINE], False, "only some"),
        ([wheel.State.PATCHED, wheel.State.ALTERED], False, "altered"),
    ],
)
def test_doctor_fails_only_on_what_is_neither(monkeypatch, states, ok, told):
    survey = {f"0{i}": [wheel.File(Path("f"), state)] for i, state in enumerate(states)}
    monkeypatch.setattr(doctor, "examine", lambda *_: survey)
    finding = doctor.CHECKS["patches"]()
    assert finding.ok is ok
    assert told in finding.detail
