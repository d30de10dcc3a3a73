"""Fake servers, and the command in the tests' own process."""

import sys
from pathlib import Path

import pytest

from llm42_sglang.cli import launch
from llm42_sglang.cli.launch import ServerProcess
from llm42_sglang.cli.main import main

FAKE = str(Path(__file__).with_name("fake_server.py"))


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A function that makes a ServerProcess around the fake server."""
    monkeypatch.setattr(launch, "POLL_S", 0.05)

    def make(*options: str, name: str = "server", **settings) -> ServerProcess:
        argv = [sys.executable, FAKE, "{port}", *options]
        return ServerProcess(argv=argv, log_path=tmp_path / "logs" / f"{name}.log", **settings)

    return make


@pytest.fixture
def llm42(capsys):
    """A function that runs `llm42` and returns its status, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main([*arguments])
        return exit_info.value.code, *capsys.readouterr()

    return run


def is_one_line(error: str) -> bool:
    """Whether the text is one line of error, as for every mistake of the user."""
    return error.startswith("llm42: error: ") and error.count("\n") == 1
