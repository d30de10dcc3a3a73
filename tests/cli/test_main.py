"""The `llm42` command as a process: status, one-line errors, quick help."""

import subprocess
import sys

import pytest


def llm42(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    import os

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
