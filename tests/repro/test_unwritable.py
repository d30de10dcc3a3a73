"""Files that cannot be written: one line, status 2, and what was there stays as it was."""

import errno
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from llm42_sglang import files
from llm42_sglang.errors import UserError
from llm42_sglang.files import write_new, write_whole
from tests.repro.conftest import status_of

ROOT = Path(__file__).parents[2]


@contextmanager
def no_room(bytes_left: int):
    """No file may become larger than this, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WRITERS = {
    "record": ("record", "{suite}", "--out", "{golden}"),
    "receipts": ("record", "{suite}", "--out", "{golden}", "--receipts", "{receipts}"),
    "update": ("check", "{golden}", "--update"),
    "junit": ("check", "{golden}", "--junit", "{junit}"),
    "report": ("check", "{golden}", "--report", "{page}"),
    "probe": ("probe", "--suite", "{suite}", "--repeats", "1", "--out", "{junit}"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk(tmp_path, golden, suite, receipts, fake, llm42, writer):
    names = {"golden": golden, "suite": suite, "receipts": receipts}
    names |= {name: tmp_path / name for name in ("junit", "page")}
    before = contents(tmp_path)
    arguments = [part.format(**names) for part in WRITERS[writer]]
    url = fake("--weights", "2", "--torch", "2.15.0").url
    with no_room(100):
        command = llm42(*arguments, "--url", url)
    assert os.strerror(errno.EFBIG) in command.mistake
    assert contents(tmp_path) == before


def unprivileged() -> list[str]:
    """What a command begins with so that permissions hold for it, also where root runs tests."""
    bounds = "--bounding-set=-dac_override,-dac_read_search"
    return ["setpriv", bounds] if os.geteuid() == 0 else []


@pytest.mark.parametrize("writer", ["record", "update", "report"])
def test_a_read_only_folder(tmp_path, golden, suite, fake, writer):
    names = {"golden": golden, "suite": suite, "page": tmp_path / "page"}
    arguments = [part.format(**names) for part in WRITERS[writer]]
    llm42 = [*unprivileged(), sys.executable, "-m", "llm42_sglang.cli.main", *arguments, "--url"]

    def run() -> tuple[int, str]:
        url = fake("--weights", "2").url
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run([*llm42, url], capture_output=True, text=True, env=env)
        return done.returncode, done.stderr.splitlines()[-1]

    before = contents(tmp_path)
    tmp_path.chmod(0o555)
    golden.chmod(0o444)
    try:
        status, line = run()
    finally:
        tmp_path.chmod(0o755)
    assert status == 2 and line.startswith("llm42: error: ") and "cannot write" in line
    assert contents(tmp_path) == before
    run()  # negative control: only the folder kept it from writing
    assert contents(tmp_path) != before


def test_a_key_is_whole_or_not_there(tmp_path, llm42):
    file = tmp_path / "key.pem"
    with no_room(10):
        command = llm42("key", file)
    assert command.status == 1 and "cannot write" in command.err and not [*tmp_path.iterdir()]
    with no_room(10), pytest.raises(OSError):  # negative control: a half would be left
        file.write_bytes(b"x" * 100)
    assert [*tmp_path.iterdir()] == [file]
    with pytest.raises(FileExistsError):
        write_new(file, b"other", 0o600)
    assert [*tmp_path.iterdir()] == [file]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_key_is_written_where_there_are_no_hard_links(tmp_path, monkeypatch, number):
    def refused(*paths) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "link", refused)
    file = tmp_path / "key.pem"
    with no_room(10), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        write_new(file, b"x" * 100, 0o600)
    assert [*tmp_path.iterdir()] == []
    write_new(file, b"key", 0o600)
    assert file.read_bytes() == b"key" and file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        write_new(file, b"other", 0o600)
    assert [*tmp_path.iterdir()] == [file] and file.read_bytes() == b"key"


def test_other_failures_of_a_link_stay_what_they_are(tmp_path, monkeypatch):
    def full(*paths) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(files.os, "link", full)
    with pytest.raises(OSError, match="full"):
        write_new(tmp_path / "key.pem", b"key", 0o600)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("arguments", [("key", "{}/key.pem"), ("--help",)])
def test_an_output_that_takes_nothing_is_one_line(tmp_path, capsys, monkeypatch, arguments):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        status = status_of(*(part.format(tmp_path) for part in arguments))
        monkeypatch.undo()
    error = capsys.readouterr().err.splitlines()[-1]
    assert status == 2 and error.startswith("llm42: error: ") and "No space left" in error


def test_an_output_that_nobody_reads_is_no_mistake(capsys, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with suppress(BrokenPipeError), open(writing, "w") as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        status = status_of("--help")
        monkeypatch.undo()
    assert (status, capsys.readouterr().err) == (1, "")


def test_a_link_stays_and_its_file_is_replaced_with_its_mode(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_whole(link, "new")
    assert link.is_symlink() and target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "later")
    write_whole(dangling, "new")
    assert dangling.is_symlink() and (tmp_path / "later").read_text() == "new"


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "device"])
def test_what_is_no_file_is_not_replaced(tmp_path, kind):
    path = tmp_path / "path"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "loop" else "/dev/null")
    before = path.lstat().st_mode, Path("/dev/null").stat().st_rdev
    with pytest.raises(UserError, match=f"^cannot write {path}: [^\n]*$"):
        write_whole(path, "new")
    assert (path.lstat().st_mode, Path("/dev/null").stat().st_rdev) == before
    assert [*tmp_path.iterdir()] == [path]


SLEEPER = """
import sys, time
from pathlib import Path
from llm42_sglang import files
from llm42_sglang.cli import record
from llm42_sglang.cli.main import main
print("up", flush=True)
replace = files.os.replace
def slowly(*paths):
    print("replacing", flush=True)
    time.sleep(60)
files.os.replace = slowly
main(sys.argv[1:])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_half_written_file(tmp_path, golden, suite, receipts, fake, number):
    """In the worst moment: all is written beside the file, and it is not in its place yet."""
    before = contents(tmp_path)
    arguments = ("record", str(suite), "--url", fake("--weights", "2").url, "--out", str(golden))
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout.readline() == b"up\n" and process.stdout.readline() == b"replacing\n"
        process.send_signal(number)
        assert process.wait(20) == 128 + number
        assert process.stderr.read() == b"llm42: recording\n"
    assert contents(tmp_path) == before
