"""The demonstration, against a fake server that behaves, and ones that do not."""

import importlib.util
import sys
from pathlib import Path

import psutil
import pytest

from llm42_sglang.cli.demo import compare
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.launch import ServerProcess, is_taken
from llm42_sglang.repro.output import first_difference
from llm42_sglang.repro.prompts import COMPANY, PROMPTS

FAKE = str(Path(__file__).with_name("fake_server.py"))
QUICKSTART = Path(__file__).parents[2] / "scripts" / "quickstart.py"


def fake_server(tmp_path: Path, *options: str) -> ServerProcess:
    argv = [sys.executable, FAKE, "{port}", *options]
    return ServerProcess(argv=argv, log_path=tmp_path / "server.log")


@pytest.fixture(scope="module")
def quickstart():
    spec = importlib.util.spec_from_file_location("quickstart", QUICKSTART)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def silent(message: str) -> None:
    pass


def test_first_difference():
    assert first_difference([1, 2], [1, 2]) is None
    assert first_difference([1, 2], [1, 3]) == 1
    assert first_difference([1, 2, 3], [1, 2]) == 2
    assert first_difference([], []) is None


def test_there_are_sixteen_different_prompts():
    assert len(PROMPTS) == len(COMPANY) == 8
    assert len({*PROMPTS, *COMPANY}) == 16


def test_compare_sees_the_divergence_and_its_place(tmp_path):
    with fake_server(tmp_path) as server:
        ordinary = compare(server.url, deterministic=False, progress=silent, new_tokens=8)
        deterministic = compare(server.url, deterministic=True, progress=silent, new_tokens=8)
    assert [c.prompt for c in ordinary] == list(PROMPTS)
    assert [c.diverged_at for c in ordinary] == [5] * 8
    assert not any(c.verified for c in ordinary)
    assert [c.diverged_at for c in deterministic] == [None] * 8
    assert all(c.verified for c in deterministic)
    assert {c.total("rollbacks") for c in deterministic} == {2}


def test_a_server_that_refuses_is_a_user_error(tmp_path):
    with fake_server(tmp_path) as server, pytest.raises(UserError, match="/flush_cache with 404"):
        compare(server.url + "/elsewhere", deterministic=True, progress=silent)
    with pytest.raises(UserError, match="stopped answering"):
        compare(server.url, deterministic=True, progress=silent)


@pytest.mark.parametrize(
    ("options", "good", "said"),
    [
        ([], True, "deterministic: 0 of 8 diverged, 0 not verified"),
        (["--broken", "diverges"], False, "deterministic: 8 of 8 diverged, 0 not verified"),
        (["--broken", "unverified"], False, "deterministic: 0 of 8 diverged, 8 not verified"),
    ],
)
def test_the_verdict_follows_from_divergence_and_verification(
    tmp_path, capsys, quickstart, options, good, said
):
    with fake_server(tmp_path, *options) as server:
        assert quickstart.demonstrate(server.url) is good
    out = capsys.readouterr().out
    assert said in out
    assert "ordinary:      8 of 8 diverged" in out
    assert "token 5" in out


@pytest.mark.parametrize(("options", "status"), [([], 0), (["--broken", "diverges"], 1)])
def test_the_exit_status_is_the_verdict_and_the_server_is_stopped(
    tmp_path, capsys, monkeypatch, quickstart, options, status
):
    servers = []

    def start_fake(args, log_path, port, progress):
        servers.append(fake_server(tmp_path, *options))
        return servers[0]

    monkeypatch.setattr(quickstart, "ServerProcess", start_fake)
    monkeypatch.setattr(quickstart, "ensure_default_model", lambda progress: tmp_path)
    assert quickstart.run(port=None, serve=False) == status
    assert not is_taken(servers[0].port)
    assert ("curl -s" in capsys.readouterr().out) is (status == 0)


def test_a_server_that_ends_while_serving_is_a_user_error(tmp_path, quickstart):
    with fake_server(tmp_path) as server:
        psutil.Process(server.pid).kill()
        with pytest.raises(UserError, match="ended by itself"):
            quickstart.wait_for_the_end(server)
