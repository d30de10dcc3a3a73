"""`llm42 doctor --against` and `--stamp` on the installed SGLang and on copies of it."""

import ast
import inspect
import pkgutil
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.main import main
from llm42_sglang.cli.patching import series
from llm42_sglang.cli.patching import wheel as wheels
from llm42_sglang.cli.upstream import compare, fetch, modules, symbols
from llm42_sglang.engine.launch import PINNED_SGLANG
from llm42_sglang.engine.seams import GPU_SEAMS, SEAMS, table
from tests.cli.upstream.wheels import wheel, write

ALL = (*SEAMS, *GPU_SEAMS)


@pytest.fixture(scope="module")
def sources() -> dict[str, bytes]:
    """Every file of the installed sglang that a comparison reads, as shipped."""
    mine, read = modules.installed(), {}
    original = mine.read

    def remember(path: str) -> bytes | None:
        content = original(path)
        if content is not None:
            read[path] = content
        return content

    mine.read = remember
    compare.compare(ALL, mine, mine)
    compare.try_patches(series.load(), mine)
    return {"sglang/__init__.py": b"", **read}


def doctor(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_status:
        main(["doctor", *arguments])
    return exit_status.value.code


def test_the_installed_wheel_is_as_the_table_says():
    assert compare.restamp_wanted(ALL, modules.installed()) == []


def test_a_body_that_nobody_has_read_is_named():
    unread = replace(SEAMS[3], body="00000000")
    mine = modules.installed()
    assert compare.restamp_wanted((SEAMS[0], unread, SEAMS[1]), mine) == [unread.path]


def test_a_patched_file_is_read_as_shipped_and_an_altered_one_is_refused(tmp_path, monkeypatch):
    real = modules.find_wheel()
    file = wheels.examine(real, series.load())["04-server-flags.patch"][0]
    path = str(file.path.relative_to(real.root))
    copy = tmp_path / path
    copy.parent.mkdir(parents=True)
    monkeypatch.setattr(modules, "find_wheel", lambda: real._replace(root=tmp_path))
    copy.write_bytes(file.patched)
    assert modules.installed().read(path) == file.shipped
    copy.write_bytes(file.patched + b"\n")
    with pytest.raises(UserError, match=f"{path} was altered"):
        modules.installed().read(path)


def test_against_itself_nothing_changes_and_nothing_of_it_is_imported(sources, tmp_path, capsys):
    broken = {**sources, "sglang/__init__.py": b"raise SystemExit('imported')"}
    assert doctor("--against", str(write(tmp_path, PINNED_SGLANG, broken))) == 0
    said = capsys.readouterr().out
    assert f"sglang {PINNED_SGLANG} against the installed {PINNED_SGLANG}" in said
    assert f"{len(ALL)} seams" in said and f"{len(ALL)} unchanged" in said


def test_against_a_changed_copy_each_change_is_named(sources, tmp_path, capsys):
    contents = dict(sources)
    for path, old, new in (
        ("srt/managers/scheduler.py", b"def get_init_info(self)", b"def get_info(self)"),
        ("srt/managers/schedule_batch.py", b"def finished(self)", b"def finished(self, really)"),
        (
            "launch_server.py",
            b"def run_server(server_args):",
            b"def run_server(server_args):\n    1",
        ),
    ):
        assert old in contents[f"sglang/{path}"]
        contents[f"sglang/{path}"] = contents[f"sglang/{path}"].replace(old, new)
    assert doctor("--against", str(write(tmp_path, "9.9", contents))) == 1
    said = capsys.readouterr().out
    for verdict, name in (
        ("gone", "managers.scheduler.Scheduler.get_init_info"),
        ("signature changed", "managers.schedule_batch.Req.finished"),
        ("body changed", "sglang.launch_server.run_server"),
    ):
        section = said.split(f"{verdict}:\n")[1].split("\n\n")[0]
        assert name in section
    assert "04-server-flags.patch: does not apply" in said
    assert "03-frontend-language.patch: applies" in said


def test_static_signatures_name_the_arguments_that_the_runtime_ones_do():
    """What is read agrees with what is imported, symbol by symbol."""
    mine, compared = modules.installed(), 0
    for seam in SEAMS:
        symbol = pkgutil.resolve_name(seam.path)
        static = re.search(r"(?:^|\s)(\(.*)", symbols.find(mine, seam.path).signature)
        if not callable(symbol) or static is None:
            continue
        runtime = set(inspect.signature(symbol).parameters)
        if isinstance(symbol, type) and "__init__" not in vars(symbol):
            assert runtime <= {*re.findall(r"(\w+):", static[1]), "args", "kwds"}
        else:
            arguments = ast.walk(ast.parse(f"def f{static[1]}: ...").body[0].args)
            names = {node.arg for node in arguments if isinstance(node, ast.arg)}
            assert names - {"cls"} == runtime - {"cls"}
        compared += 1
    assert compared > 80


def test_the_stamp_of_what_is_installed_is_the_tables(capsys):
    assert doctor("--stamp") == 0
    assert table.parse(capsys.readouterr().out) == ALL


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
    write(tmp_path, "1", {"other/__init__.py": ""}).rename("other.whl")
    assert doctor("--against", named) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("llm42: error: ") and error.count("\n") == 1


@pytest.fixture
def pip(tmp_path, monkeypatch):
    """A pip in this Python's place that has version 1.1 only; counts its downloads."""
    monkeypatch.setenv("LLM42_CACHE", str(tmp_path / "cache"))
    made = wheel(tmp_path)
    script = tmp_path / "pip"
    script.write_text(
        f"#!{sys.executable}\n"
        "import shutil, sys\n"
        f"open({str(tmp_path / 'calls')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        "wanted, folder = sys.argv[4], sys.argv[6]\n"
        "if wanted not in ('sglang', 'sglang==1.1'):\n"
        "    print('WARNING: x\\nERROR: No matching distribution found', file=sys.stderr)\n"
        "    sys.exit(1)\n"
        f"shutil.copy({str(made)!r}, folder)\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(fetch.sys, "executable", str(script))
    return tmp_path / "calls"


def test_a_version_is_downloaded_once_into_the_cache(pip, tmp_path):
    first, again = fetch.wheel_file("1.1"), fetch.wheel_file("1.1")
    assert first == again == tmp_path / "cache/wheels/sglang-1.1-py3-none-any.whl"
    assert modules.in_wheel(first).version == "1.1"
    assert pip.read_text().count("download sglang==1.1") == 1
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_the_latest_version_is_asked_for_every_time(pip):
    assert fetch.wheel_file("latest") == fetch.wheel_file("latest")
    assert pip.read_text().count("download sglang ") == 2


def test_a_version_that_pip_does_not_find_is_one_line_and_status_2(pip, capsys):
    assert doctor("--against", "7.0") == 2
    error = capsys.readouterr().err
    assert error == (
        "llm42: error: pip cannot download sglang==7.0: No matching distribution found\n"
    )
