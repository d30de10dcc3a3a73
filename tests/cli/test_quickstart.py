"""The demonstration, on servers that behave, and ones that do not."""

import importlib.util
import sys
from pathlib import Path

import psutil
import pytest

from llm42_sglang.cli import launch
from llm42_sglang.cli.launch import ServerProcess, is_taken
from llm42_sglang.errors import UserError
from llm42_sglang.repro.prompts import COMPANY, PROMPTS
from tests.repro import fake_endpoint
from tests.repro.fake_endpoint import FakeEndpoint

QUICKSTART = Path(__file__).parents[2] / "scripts" / "quickstart.py"
GOOD = ("--flips", "ordinary")


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


def test_what_is_compared_is_a_prompt_alone_and_in_company(quickstart, capsys):
    assert len({*PROMPTS, *COMPANY}) == 16
    with FakeEndpoint(*GOOD) as server:
        ordinary = quickstart.compare(server.url, False)
        deterministic = quickstart.compare(server.url, True)
    assert [one.prompt for one in ordinary] == list(PROMPTS)
    assert [one.diverged_at for one in ordinary] == [5] * 8
    assert [one.diverged_at for one in deterministic] == [None] * 8
    assert not any(one.verified for one in ordinary)
    assert all(one.verified for one in deterministic)
    assert {one.total("verify_passes") for one in deterministic} == {2 + 2}
    assert capsys.readouterr().out.count("8 of 8 answered") == 4
    with pytest.raises(UserError, match="no server answers"):
        quickstart.compare(server.url, True)


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (GOOD, 0, "0 of 8 diverged, 0 not verified"),
        (("--flips", "load"), 1, "8 of 8 diverged, 0 not verified"),
        ((*GOOD, "--unverified"), 1, "0 of 8 diverged, 8 not verified"),
    ],
)
def test_the_exit_status_is_the_verdict_and_the_server_is_stopped(
    tmp_path, capsys, monkeypatch, quickstart, options, status, said
):
    servers = []

    def start_fake(args, log_path, port, progress):
        servers.append(server_process(tmp_path, *options))
        return servers[0]

    monkeypatch.setattr(quickstart, "ServerProcess", start_fake)
    monkeypatch.setattr(quickstart, "ensure_default_model", lambda progress: tmp_path)
    assert quickstart.run(port=None, serve=False) == status
    assert not is_taken(servers[0].port)
    out = capsys.readouterr().out
    assert f"deterministic: {said}" in out and "ordinary:      8 of 8 diverged" in out
    assert "token 5" in out
    assert ("curl -s" in out) is (status == 0)


def test_a_server_that_ends_while_serving_is_a_user_error(tmp_path, quickstart):
    with server_process(tmp_path) as server:
        psutil.Process(server.pid).kill()
        with pytest.raises(UserError, match="ended by itself"):
            quickstart.wait_for_the_end(server)
