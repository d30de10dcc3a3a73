"""ServerProcess starts a server, waits for it, reports progress, and leaves nothing running."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from threading import Timer

import httpx
import psutil
import pytest

from llm42_sglang.cli import launch
from llm42_sglang.cli.launch import SERVE, ServerError, ServerProcess, is_taken
from tests.cli.conftest import FAKE


def runs(pid: int) -> bool:
    try:
        return launch.runs(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def test_waits_for_health_reports_progress_and_leaves_nothing(fake):
    reports = []
    with fake("--sick", "3", progress=lambda *report: reports.append(report)) as server:
        assert len(reports) >= 3
        assert httpx.get(server.url + "/health").status_code == 200
        assert server.alive
        pid = server.pid
        assert os.getpgid(pid) == pid != os.getpgid(0)
    assert not runs(pid)
    assert not server.alive
    server.stop()  # a second time is harmless
    assert "loading weights" in [line for _, line in reports]  # without its colour codes
    seconds = [seconds for seconds, _ in reports]
    assert seconds == sorted(seconds) and seconds[-1] > 2 * launch.POLL_S


def test_command_port_and_environment_are_passed_on_and_a_death_is_told_with_the_log(tmp_path):
    port, log_path = launch.free_port(), tmp_path / "log"
    assert 30000 < port < 32768  # not one that Linux or SGLang gives to others
    script = "import os, sys; print(sys.argv[1], os.environ['LLM42_T']); sys.exit(3)"
    argv = [sys.executable, "-c", script, "port={port}"]
    server = ServerProcess(argv=argv, port=port, env={"LLM42_T": "x"}, log_path=log_path)
    with pytest.raises(ServerError, match=rf"(?s)ended with status 3.*port={port} x"):
        server.start()
    assert not server.alive and log_path.read_text() == f"port={port} x\n"
    server = ServerProcess(["--flag"], port=31234, log_path=log_path)
    assert server.argv == [*SERVE[:-1], "31234", "--flag"]


def test_a_start_that_is_given_up_ends_the_server(fake):
    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    for settings, error, message in (
        ({"deadline_s": 0}, ServerError, "was not healthy after 0 s"),
        ({"progress": interrupt}, KeyboardInterrupt, None),
    ):
        server = fake("--sick", "1000", **settings)
        with pytest.raises(error, match=message):
            server.start()
        assert not server.alive and not is_taken(server.port)


def test_a_command_that_is_terminated_stops_its_server(tmp_path):
    children = tmp_path / "children"
    script = (
        "from pathlib import Path\nimport sys, time\n"
        "from llm42_sglang.cli.launch import ServerProcess\n"
        "from llm42_sglang.cli.signals import leave_on_signals\n"
        "leave_on_signals()\n"
        "with ServerProcess(argv=sys.argv[1:], log_path=Path('log')):\n"
        "    print('up', flush=True)\n"
        "    time.sleep(60)\n"
    )
    argv = [sys.executable, FAKE, "{port}", "--children", str(children)]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", script, *argv], stdout=subprocess.PIPE, cwd=tmp_path, env=env
    ) as command:
        assert command.stdout.readline() == b"up\n"
        command.terminate()
        assert command.wait(60) == 128 + signal.SIGTERM
    assert not any(map(runs, json.loads(children.read_text())))


@pytest.mark.parametrize("held", [True, False])
def test_ctrl_c_while_the_server_is_spawned_leaves_no_process(fake, monkeypatch, held):
    """Negative control: where signals are not held back, nobody knows the process."""
    spawned, popen = [], subprocess.Popen

    def interrupted(*arguments, **options):
        spawned.append(popen(*arguments, **options))
        signal.raise_signal(signal.SIGINT)
        return spawned[0]

    monkeypatch.setattr(launch.subprocess, "Popen", interrupted)
    if not held:
        monkeypatch.setattr(launch, "held_back", nullcontext)
    server = fake("--sick", "1000")
    with pytest.raises(KeyboardInterrupt):
        server.start()
    monkeypatch.undo()
    assert runs(spawned[0].pid) is not held
    spawned[0].kill()
    spawned[0].wait()


def test_a_second_ctrl_c_kills_the_server(fake):
    with pytest.raises(KeyboardInterrupt), fake("--stubborn", grace_s=30) as server:
        pid = server.pid
        Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
        began = time.monotonic()
    assert time.monotonic() - began < 10
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], 30)
    assert not runs(pid) and not server.alive


def test_a_port_in_use_or_a_command_that_does_not_exist_is_refused(fake, tmp_path):
    with fake() as server:
        assert is_taken(server.port)
        with pytest.raises(ServerError, match=f"port {server.port} is in use"):
            fake(port=server.port).start()
        assert server.alive
    with pytest.raises(ServerError, match="cannot start /no/such"):
        ServerProcess(argv=["/no/such"], log_path=tmp_path / "log").start()


def test_children_of_a_killed_server_are_ended_and_strangers_are_not(fake, tmp_path):
    children = tmp_path / "children"
    with fake() as stranger, fake("--children", str(children), name="other") as server:
        pids = json.loads(children.read_text())
        assert os.getsid(pids[0]) != os.getsid(pids[1])
        psutil.Process(server.pid).kill()
        while server.alive:
            time.sleep(0.05)
        assert all(map(runs, pids))
        server.stop()
        assert not any(map(runs, pids)) and stranger.alive


LISTENS = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
freed_by_the_last_thread = bytearray(400_000_000)
freed_by_the_last_thread[::4096] = bytes(len(freed_by_the_last_thread[::4096]))
def spin():
    while True:
        pass
for _ in range(6):
    threading.Thread(target=spin).start()
print(flush=True)
"""


def test_a_process_whose_first_thread_has_gone_runs_while_it_holds_its_port():
    port = launch.free_port()
    command = [sys.executable, "-c", LISTENS, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"\n" and is_taken(port)
        process.terminate()
        deadline = time.monotonic() + 60
        while runs(process.pid) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert not is_taken(port)


def test_a_server_that_ignores_sigterm_is_killed(fake):
    with fake("--stubborn", grace_s=0.5) as server:
        process = psutil.Process(server.pid)
        began = time.monotonic()
    assert time.monotonic() - began >= 0.5
    psutil.wait_procs([process], 30)  # it dies when it next gets to run
    assert not runs(process.pid)
