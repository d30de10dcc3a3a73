"""Start a server, wait until it is healthy, and end the processes that it started, no others."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import SystemRandom

import httpx
import psutil

from llm42_sglang.cli.signals import held_back
from llm42_sglang.errors import UserError

SERVE = (sys.executable, "-m", "llm42_sglang.cli.main", "serve", "--port", "{port}")
HOST = "127.0.0.1"
# Above SGLang's default port, 30000, and below the ports that Linux gives to sockets by itself.
UNASSIGNED_PORTS = range(30001, 32768)
POLL_S = 0.5
TAIL_LINES = 25
WINDOW = 65536  # bytes read at the end of a log; SGLang writes long lines
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

# Called while the server starts, with the seconds so far and the last line of its log.
Progress = Callable[[float, str], None]


class ServerError(UserError):
    """The server ended, or did not become healthy in time. The text ends with its log's tail."""


class ServerProcess:
    """A server as a context manager: started and healthy inside, gone after it.

        with ServerProcess(["--max-total-tokens", "40000"], log_path=Path("server.log")) as server:
            httpx.get(server.url + "/model_info")

    `args` follow `llm42 serve --port N`. `argv` replaces that whole command, and `{port}` in it
    becomes the port. `env` is added to this process's environment. Without a `port` a free one is
    taken. The start may last `deadline_s`; for `grace_s` see `stop`.
    """

    def __init__(
        self,
        args: Sequence[str] = (),
        *,
        log_path: Path,
        argv: Sequence[str] | None = None,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        deadline_s: float = 600,
        grace_s: float = 15,
        progress: Progress = lambda seconds, line: None,
    ) -> None:
        self.args = args
        self.port = free_port() if port is None else port
        self.url = f"http://{HOST}:{self.port}"
        self.log_path = log_path
        command = [*SERVE, *args] if argv is None else argv
        self.argv = [part.replace("{port}", str(self.port)) for part in command]
        self.env = {**os.environ, **(env or {})}
        self._deadline_s = deadline_s
        self._grace_s = grace_s
        self._progress = progress
        self._process: subprocess.Popen[bytes] | None = None
        self._family: set[psutil.Process] = set()

    def __enter__(self) -> "ServerProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The id of the server's first process, which is also that of its session and group."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the server's first process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and return when it is healthy.

        Raises ServerError, after ending its processes, if it exits or the deadline passes.
        """
        assert self._process is None, "started twice"
        if is_taken(self.port):  # the health of another server would be taken for this one's
            raise ServerError(f"port {self.port} is in use; name another one or leave it out")
        try:
            with held_back():
                self._process = self._spawn()
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and all processes that it started. A second call does nothing.

        At first only the first process gets SIGTERM, and has `grace_s` seconds to end the others.
        SGLang finishes its requests then. It would take a scheduler that gets a signal for crashed.
        Once the first process has gone, the others get SIGTERM. What is left gets SIGKILL. If
        something interrupts this, such as a second Ctrl-C, all get SIGKILL at once.
        """
        if self._process is None:
            return
        try:
            self._remember_family()
            if self._end({psutil.Process(self.pid)} if self.alive else set(), signal.SIGTERM):
                self._end(self._family, signal.SIGTERM)
        finally:
            with held_back():
                self._kill()

    def _kill(self) -> None:
        self._remember_family()
        self._end(self._family, signal.SIGKILL)
        self._process.poll()
        self._process = None  # its id may belong to another process from now on
        self._family.clear()

    def log_tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines of the server's log."""
        return "\n".join(tail(self.log_path, lines))

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("wb") as log:
            try:
                return subprocess.Popen(
                    self.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self.env,
                    start_new_session=True,
                )
            except OSError as error:
                raise ServerError(f"cannot start {self.argv[0]}: {error}") from error

    def _wait_until_healthy(self) -> None:
        began = time.monotonic()
        with httpx.Client(base_url=self.url, timeout=10, trust_env=False) as client:
            while not self._is_healthy(client):
                seconds = time.monotonic() - began
                self._remember_family()
                if self._process.poll() is not None:
                    raise self._failure(f"ended with status {self._process.returncode}")
                if seconds > self._deadline_s:
                    raise self._failure(f"was not healthy after {self._deadline_s:.0f} s")
                self._progress(seconds, last_event(self.log_path))
                time.sleep(POLL_S)
        self._remember_family()  # now, while all parents live

    def _is_healthy(self, client: httpx.Client) -> bool:
        try:
            return client.get("/health").status_code == 200 and self.alive
        except httpx.HTTPError:
            return False

    def _failure(self, what: str) -> ServerError:
        return ServerError(f"the server {what}; {self.log_path} ends with\n{self.log_tail()}")

    def _end(self, processes: set[psutil.Process], number: signal.Signals) -> bool:
        """Send a signal. Returns whether the processes have ended within the grace."""
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)  # psutil makes sure that the id is still this process's
        deadline = time.monotonic() + self._grace_s
        while any(map(runs, processes)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
            self._process.poll()  # reaps the first process, whose parent we are
        return True

    def _remember_family(self) -> None:
        """Add the session's processes to the family, and all descendants of its members.

        A child that started a session of its own is a descendant. A process whose parent has died
        is in the family from before.
        """
        for process in psutil.process_iter():
            with suppress(ProcessLookupError):
                if os.getsid(process.pid) == self.pid:
                    self._family.add(process)
        for process in list(self._family):
            with suppress(psutil.NoSuchProcess):
                self._family.update(process.children(recursive=True))


def free_port() -> int:
    """A TCP port that is free now, from a range that on most machines nothing uses by chance."""
    while True:
        port = SystemRandom().choice(UNASSIGNED_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
                return port
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise


def is_taken(port: int) -> bool:
    """Whether something on this machine listens on the TCP port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def tail(log_path: Path, lines: int) -> list[str]:
    """The last non-empty lines of a log, without colours and overwritten progress bars."""
    text = ESCAPES.sub("", log_path.read_bytes()[-WINDOW:].decode(errors="replace"))
    shown = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return [line for line in shown if line][-lines:]


def last_event(log_path: Path) -> str:
    """The last informative line of a log: no warning, no source line, no access log."""
    for line in reversed(tail(log_path, TAIL_LINES)):
        if not line[0].isspace() and "Warning: " not in line and "GET /health" not in line:
            return line
    return ""


def runs(process: psutil.Process) -> bool:
    """Whether a thread of the process runs. The last one frees its ports and its memory.

    A process is called a zombie from when its first thread has ended.
    """
    try:
        zombie = process.status() == psutil.STATUS_ZOMBIE
        return process.is_running() and (not zombie or process.num_threads() > 1)
    except psutil.NoSuchProcess:
        return False
