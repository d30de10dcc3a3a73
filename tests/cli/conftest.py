"""Fake servers in place of real ones."""

import sys
from pathlib import Path

import pytest

from llm42_sglang.cli import launch
from llm42_sglang.cli.launch import ServerProcess

FAKE = str(Path(__file__).with_name("fake_server.py"))


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A function that makes a ServerProcess around the fake server."""
    monkeypatch.setattr(launch, "POLL_S", 0.05)

    def make(*options: str, name: str = "server", **settings) -> ServerProcess:
        argv = [sys.executable, FAKE, "{port}", *options]
        return ServerProcess(argv=argv, log_path=tmp_path / "logs" / f"{name}.log", **settings)

    return make
