"""SGLang's router in front of two servers: the same request, by either of them, the same bits.

The router writes bodies of /generate anew and leaves out fields that it does not know,
`custom_params` among them, so the servers are deterministic by default.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from llm42_sglang.cli.launch import ServerProcess, free_port, local_client
from tests.engine import client, matrix

pytestmark = pytest.mark.server

pytest.importorskip(
    "sglang_router", reason="SGLang's router is a package of its own: pip install sglang-router"
)
DEADLINE_S = 60


@contextmanager
def routed(log_path: Path, *workers: str) -> Iterator[str]:
    """The URL of a router that sends requests to the workers in turn."""
    port, metrics = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    listen = ("--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(metrics))
    command = [sys.executable, "-m", "sglang_router.launch_router", *listen]
    command += ["--policy", "round_robin", "--worker-urls", *workers]
    with (
        log_path.open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as router,
    ):
        try:
            _wait_for(url, router)
            yield url
        finally:
            router.terminate()


def _wait_for(url: str, router: subprocess.Popen) -> None:
    for _ in range(DEADLINE_S):
        assert router.poll() is None, "the router has ended"
        try:
            with local_client(url, 5) as http:
                if http.get("/readiness").status_code == 200:
                    return
        except httpx.HTTPError:
            pass  # it does not listen yet
        time.sleep(1)
    raise AssertionError(f"the router has no workers after {DEADLINE_S} s")


def test_either_server_gives_the_same_bits_through_the_router(servers, tiny, tmp_path):
    servers.stop()
    configuration = tiny("qwen3", "--llm42-default", LLM42_FAULT="decode")
    logs = [tmp_path / f"{name}.log" for name in ("one", "other")]

    def start(log_path: Path) -> ServerProcess:
        return ServerProcess(configuration.args, log_path=log_path, env=dict(configuration.env))

    with start(logs[0]) as one, start(logs[1]) as other:
        direct = client.ask_all(one.url, matrix.requests(), in_flight=1)
        ordinary = client.ask_all(one.url, matrix.requests(deterministic=False)[:1], in_flight=1)
        with routed(tmp_path / "router.log", one.url, other.url) as url:
            through = [client.ask_all(url, matrix.requests(), 4, shuffle=seed) for seed in (1, 2)]
    for answers in through:
        assert matrix.bits_of(answers) == matrix.bits_of(direct)
    everything = [answer for answers in (direct, *through) for answer in answers]
    assert len({answer.meta["llm42"]["fingerprint"] for answer in everything}) == 1
    # The negative control: decode steps are perturbed, and unverified they show.
    assert client.total(everything, "rollbacks") > 0
    assert ordinary[0].ids != direct[0].ids
    assert "POST /generate" in logs[1].read_text()  # the router has asked both
