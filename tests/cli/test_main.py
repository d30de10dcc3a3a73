"""The `llm42` command: its status, errors of one line, and quick help."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from llm42_sglang import tools
from tests.cli.conftest import is_one_line


def test_help_names_the_commands_and_imports_nothing_heavy(llm42):
    status, out, _ = llm42("--help")
    assert status == 0 and "model" in out
    heavy = (
        "import sys, llm42_sglang.cli.main; print({'torch', 'sglang', 'gguf'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", heavy], text=True) == "set()\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nonsense"], 2, "nonsense"),
        (["model", "--nonsense"], 2, "--nonsense"),
        ([], 2, "command"),
        (["model"], 1, "cannot prepare the default model in /proc/nowhere"),
    ],
)
def test_a_mistake_is_one_line(llm42, monkeypatch, arguments, status, message):
    monkeypatch.setenv("LLM42_CACHE", "/proc/nowhere")
    exit_status, out, error = llm42(*arguments)
    assert (exit_status, out) == (status, "") and message in error and is_one_line(error)


@pytest.mark.parametrize(
    ("program", "traceback"),
    [
        ("from llm42_sglang.cli import run; run()", False),
        ("from llm42_sglang.cli.main import main; main()", True),  # negative control
    ],
)
def test_ctrl_c_while_python_imports_is_no_traceback(tmp_path, program, traceback):
    interrupting = "import signal, time; signal.raise_signal(signal.SIGINT); time.sleep(9)"
    (tmp_path / "typer.py").write_text(interrupting)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True)
    assert ran.returncode == -signal.SIGINT
    assert ran.stderr.startswith(b"Traceback") if traceback else not ran.stderr


WITHOUT_TOOLS = """
import sys
from llm42_sglang import tools
sys.modules.update(dict.fromkeys(tools.PACKAGES))  # importing one is as if it were not there
from llm42_sglang.cli.main import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("command", "package"),
    [
        ("record suite.yaml --url http://localhost:1 --out golden.json", "pyyaml"),
        ("check golden.json --url http://localhost:1 --report page.html", "jinja2"),
        ("serve", "accelerate"),
        ("serve --help", None),
    ],
)
def test_a_command_that_needs_a_tool_says_so_in_one_line(tmp_path, command, package):
    (tmp_path / "suite.yaml").write_text("[]")
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_TOOLS, *command.split()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "LLM42_CACHE": str(tmp_path)},
    )
    if package is None:
        assert (process.returncode, process.stderr) == (0, "")
    else:
        assert process.returncode == 2
        assert f"needs {package}: pip install 'llm42-sglang[tools]'" in process.stderr
        assert is_one_line(process.stderr)


def test_the_tools_are_those_of_the_extra():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(tools.PACKAGES.values()) == set(project["optional-dependencies"]["tools"])
