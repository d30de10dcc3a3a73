"""Servers that must not start, or must not look healthy."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llm42_sglang.cli.launch import ServerError, ServerProcess, local_client
from tests.engine import client

pytestmark = pytest.mark.server


def test_each_false_assumption_is_caught(servers, tmp_path):
    """One falsified in each server, all at once to save time; the shapes of the pass differ."""
    servers.stop()
    shapes = {"a1": (16, 2), "a1-kv": (32, 1), "a2": (32, 4), "a3": (64, 1)}
    with ThreadPoolExecutor(len(shapes)) as pool:
        logs = list(pool.map(lambda fault: _refused_log(fault, *shapes[fault], tmp_path), shapes))
    for fault, log in zip(shapes, logs, strict=True):
        (line,) = [line for line in log.splitlines() if line.startswith("llm42: error: ")]
        assert f"assumption {fault[:2].upper()}" in line
        assert ("the KV of page" in line) == (fault == "a1-kv")
        assert "Traceback" not in log


def _refused_log(fault: str, page: int, group: int, folder: Path) -> str:
    log_path = folder / f"{fault}.log"
    shape = ["--llm42-page", str(page), "--llm42-group", str(group)]
    server = ServerProcess(
        [*shape, "--max-total-tokens", "8000"], log_path=log_path, env={"LLM42_FAULT": fault}
    )
    with pytest.raises(ServerError):
        server.start()
    return log_path.read_text()


def test_health_is_not_200_without_hooks_in_the_scheduler(servers, tmp_path):
    servers.stop()
    server = ServerProcess(
        ["--max-total-tokens", "20000"],
        log_path=tmp_path / "server.log",
        env={"LLM42_FAULT": "no-scheduler"},
        deadline_s=120,
    )
    responses = []

    def ask(seconds: float, line: str) -> None:
        if "The server is fired up" in (tmp_path / "server.log").read_text():
            responses.append(client.post(server.url, client.body(client.prompts()[0])))
            with local_client(server.url, 10) as http:
                responses.append(http.get("/health"))
            raise _SeenEnough

    server._progress = ask
    with pytest.raises(_SeenEnough):
        server.start()
    for response in responses:  # to a deterministic request, and to /health
        assert response.status_code == 503
        assert "not live" in response.json()["error"]["message"]
    assert len(responses) == 2


class _SeenEnough(Exception):
    """Ends the wait for a health that never comes."""


BAD_FLAGS = {
    "--llm42-page 24": "choose one of 16, 32, 64",
    "--llm42-page many": "--llm42-page",
    "--llm42-group 3": "choose one of 1, 2, 4",
    "--llm42-run-ahead 40": "choose 0 to 32",
    "--page-size 64": "use --llm42-page",
    "--max-total-tokens lots": "--max-total-tokens",
    "--no-such-flag": "--no-such-flag",
    "--enable-mixed-chunk": "--enable-mixed-chunk",
    "--pp-size 2": "--pp-size",
    "--model-path /no/such/model": "/no/such/model",
}


@pytest.fixture(scope="module")
def refusals() -> dict[str, subprocess.CompletedProcess]:
    """What `llm42 serve` says to each, a few at a time: each takes SGLang's import time."""

    def serve(flags: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "llm42_sglang.cli.main", "serve", *flags.split()]
        return subprocess.run(command, capture_output=True, text=True, timeout=600)

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(BAD_FLAGS, pool.map(serve, BAD_FLAGS), strict=True))


@pytest.mark.parametrize("flags", BAD_FLAGS)
def test_bad_flags_are_one_line(servers, refusals, flags):
    result = refusals[flags]
    lines = [line for line in result.stderr.splitlines() if line.startswith("llm42: error: ")]
    assert result.returncode != 0
    assert len(lines) == 1, result.stderr
    assert BAD_FLAGS[flags] in lines[0]
    assert "Traceback" not in result.stderr
