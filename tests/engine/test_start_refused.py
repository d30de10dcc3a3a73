"""Servers that must not start, or must not look healthy."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from llm42_sglang.cli.launch import ServerError, ServerProcess, local_client
from tests.engine import client
from tests.engine.conftest import CORES, Server
from tests.engine.tiny_models import FP32

pytestmark = pytest.mark.server


def unfit(tiny) -> dict[str, Server]:
    """Servers that certification refuses."""
    flags = ("--llm42-page", "64", "--llm42-group", "1", "--max-total-tokens", "8000")
    servers = {"a3": Server(flags, (("LLM42_FAULT", "a3"),))}
    # An expert's GEMM in SGLang's own shapes: as many rows as the neighbours send it.
    servers["experts"] = tiny("qwen3_moe", *FP32, LLM42_FAULT="experts")
    # The KV of rank 1 alone is another one at every run.
    servers["rank 1"] = tiny("qwen3", "--tp-size", "2", LLM42_FAULT="rank1,a1-kv", **CORES)
    return servers


@pytest.fixture(scope="module")
def refused(servers, tiny, tmp_path_factory) -> dict[str, str]:
    """What each of them says, by name; several at a time."""
    servers.stop()
    folder = tmp_path_factory.mktemp("refused")

    def log_of(name: str, server: Server) -> str:
        log_path = folder / f"{name}.log"
        # A thread each: two for each of several servers would mostly wait for one another.
        env = {"OMP_NUM_THREADS": "1"} | dict(server.env)
        process = ServerProcess(server.args, log_path=log_path, env=env, deadline_s=1500)
        with pytest.raises(ServerError, match="ended with status"):
            process.start()
        return log_path.read_text()

    started = unfit(tiny)
    with ThreadPoolExecutor(len(started)) as pool:
        return dict(zip(started, pool.map(log_of, started, started.values()), strict=True))


def test_a_false_assumption_keeps_it_from_starting(refused):
    """The others, and what each comparison finds: `test_certify.py`."""
    (line,) = errors_in(refused["a3"])
    assert "assumption A3" in line
    assert "Traceback" not in refused["a3"]


def test_experts_in_sglangs_shapes_are_not_certified(refused):
    """Negative control of `platform.experts`."""
    (line,) = errors_in(refused["experts"])
    assert "assumption A2" in line


def test_what_one_rank_sees_keeps_all_from_starting(refused):
    said = {line.partition(": ")[2] for line in errors_in(refused["rank 1"])}
    assert len(said) == 1 and "assumption A1" in said.pop()


def errors_in(log: str) -> list[str]:
    """Our own lines, without their "llm42: "."""
    marks = ("llm42: error: ", "llm42: error on ")
    return [line.removeprefix("llm42: ") for line in log.splitlines() if line.startswith(marks)]


def test_health_is_not_200_without_hooks_in_the_scheduler(servers, tmp_path):
    servers.stop()
    server = ServerProcess(
        ["--max-total-tokens", "20000"],
        log_path=tmp_path / "server.log",
        env={"LLM42_FAULT": "no-scheduler"},
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
    "--llm42-wait 40": "choose 0 to 32",
    "--page-size 64": "use --llm42-page",
    "--max-total-tokens lots": "--max-total-tokens",
    "--no-such-flag": "--no-such-flag",
    "--enable-mixed-chunk": "--enable-mixed-chunk",
    "--pp-size 2": "--pp-size",
    "--model-path /no/such/model": "/no/such/model",
}


# SGLang is imported once, for that takes half a minute; each command is then a process of its own.
COMMANDS = """
import json, os, sys, tempfile
from llm42_sglang.cli.main import main
from llm42_sglang.engine import launch
import sglang.srt.server_args

said = []
for flags in sys.argv[1:]:
    with tempfile.TemporaryFile("w+") as stderr:
        if not (child := os.fork()):
            os.dup2(stderr.fileno(), 2)
            main(["serve", *flags.split()])
            os._exit(0)  # it has refused nothing
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        stderr.seek(0)
        said.append((status, stderr.read()))
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def refusals() -> dict[str, tuple[int, str]]:
    """Exit status of `llm42 serve`, and what it says on stderr."""
    command = [sys.executable, "-c", COMMANDS, *BAD_FLAGS]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    said = json.loads(ran.stdout.splitlines()[-1])
    return {flags: (status, text) for flags, (status, text) in zip(BAD_FLAGS, said, strict=True)}


@pytest.mark.parametrize("flags", BAD_FLAGS)
def test_bad_flags_are_one_line(refusals, flags):
    status, stderr = refusals[flags]
    (line,) = errors_in(stderr)
    assert status != 0
    assert BAD_FLAGS[flags] in line
    assert "Traceback" not in stderr
