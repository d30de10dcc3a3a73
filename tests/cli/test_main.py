"""The `llm42` command as a process: status, one-line errors, quick help."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from llm42_sglang import tools


def llm42(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llm42_sglang.cli.main", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


def test_help_names_the_commands_and_imports_nothing_heavy():
    done = llm42("--help")
    assert done.returncode == 0
    assert "model" in done.stdout
    heavy = (
        "import sys, llm42_sglang.cli.main; print({'torch', 'sglang', 'gguf'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", heavy], text=True) == "set()\n"


@pytest.mark.parametrize("arguments", [["nonsense"], ["model", "--nonsense"], []])
def test_a_wrong_command_line_is_one_line_and_status_2(arguments):
    done = llm42(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("llm42: error: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_user_error_is_one_line_and_status_1():
    done = llm42("model", LLM42_CACHE="/proc/nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("llm42: error: cannot prepare the default model in /proc/nowhere")
    assert "LLM42_CACHE" in done.stderr
    assert done.stderr.count("\n") == 1


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
        ("probe http://localhost:1 --report page.html", "jinja2"),
        ("serve", "accelerate"),
        ("--help", None),
        ("serve --help", None),
    ],
)
def test_a_command_that_needs_a_tool_says_so_in_one_line(tmp_path, command, package):
    (tmp_path / "suite.yaml").write_text("[]")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TOOLS, *command.split()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "LLM42_CACHE": str(tmp_path)},
    )
    if package is None:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert done.returncode == 2
        assert f"needs {package}: pip install 'llm42-sglang[tools]'" in done.stderr
        assert done.stderr.startswith("llm42: error: ") and done.stderr.count("\n") == 1


def test_the_tools_are_those_of_the_extra():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(tools.PACKAGES.values()) == set(project["optional-dependencies"]["tools"])
