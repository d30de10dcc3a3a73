"""The demonstration on servers that are deterministic, and on ones that are not."""

import importlib.util
import sys
from pathlib import Path

import psutil
import pytest

from llm42_sglang.cli import launch
from llm42_sglang.cli.launch import ServerProcess, is_taken
from llm42_sglang.errors import UserError
from llm42_sglang.repro.prompts import BACKGROUND, PROMPTS
from tests.repro import fake_endpoint

QUICKSTART = Path(__file__).parents[2] / "scripts" / "quickstart.py"


@pytest.fixture
def quickstart(monkeypatch):
    spec = importlib.util.spec_from_file_location("quickstart", QUICKSTART)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(launch, "POLL_S", 0.05)
    monkeypatch.setattr(module, "NEW_TOKENS", 8)
    return module


def server_process(tmp_path: Path, *options: str) -> ServerProcess:
    argv = [sys.executable, fake_endpoint.__file__, "{port}", *options]
    return ServerProcess(argv=argv, log_path=tmp_path / "server.log")


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--flips", "ordinary"], 0, "0 of 8 diverged, 0 not verified"),
        (["--flips", "load"], 1, "8 of 8 diverged, 0 not verified"),
        (["--flips", "ordinary", "--unverified"], 1, "0 of 8 diverged, 8 not verified"),
    ],
)
def test_the_exit_status_is_the_verdict_and_the_server_is_stopped(
    tmp_path, capsys, monkeypatch, quickstart, options, status, message
):
    server = server_process(tmp_path, *options)
    monkeypatch.setattr(quickstart, "ServerProcess", lambda *_, **settings: server)
    monkeypatch.setattr(quickstart, "ensure_default_model", lambda progress: tmp_path)
    assert quickstart.run(port=None, serve=False) == status
    assert not is_taken(server.port)
    out = capsys.readouterr().out
    assert f"deterministic: {message}" in out and "ordinary:      8 of 8 diverged" in out
    # Each prompt has a row in each table.
    assert out.count("token 5") == 8 * (2 if message.startswith("8") else 1)
    assert len({*PROMPTS, *BACKGROUND}) == 16 and out.count("8 of 8 answered") == 4
    total = next(line for line in out.splitlines() if "total" in line)
    assert f" {8 * (2 + 2)} " in total  # verify passes
    assert ("curl -s" in out) is (status == 0)


def test_a_server_that_ends_while_serving_is_a_user_error(tmp_path, quickstart):
    with server_process(tmp_path) as server:
        psutil.Process(server.pid).kill()
        with pytest.raises(UserError, match="ended by itself"):
            quickstart.wait_for_the_end(server)
