"""Servers forked from a process that has imported SGLang: seconds instead of half a minute.

A server consists of three processes, each of which imports SGLang; that takes most of its start.
Here `multiprocessing`'s fork server imports it once. Everything else happens as in a server that a
user starts: the command line, the plugin's entry point, certification, the processes and what they
say to each other. Only SGLang's own processes are forked too, where SGLang would spawn them. What
depends on a fresh import is tested by the servers that are started as users do
(`servers.CONFIGURATIONS`).

A process that has threads must not be forked: a lock that one of them holds stays locked in the
child for ever. A server's first process has none yet. A program that has had an Engine has some, so
its next Engine's processes are spawned.
"""

import faulthandler
import multiprocessing
import os
import pkgutil
import signal
import time
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from unittest.mock import patch

PRELOADED = (
    "sglang.launch_server",
    "sglang.srt.entrypoints.http_server",
    "sglang.srt.managers.scheduler",
    "sglang.srt.managers.data_parallel_controller",
    "sglang.srt.managers.detokenizer_manager",
    "sglang.srt.models.registry",
    "llm42_sglang.engine.start.launch",
    "llm42_sglang.cli.main",
)
CONTEXT = multiprocessing.get_context("forkserver")
LLM42 = "llm42_sglang.cli.main:main"
TELL = signal.SIGUSR2  # a process that gets it writes the stack of each thread to the log


class Forked:
    """Runs `llm42`, or another program, with these arguments, in a session of its own, its output
    in the log; as much of `subprocess.Popen` as is needed. `env` is its whole environment."""

    def __init__(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        log_path: Path,
        program: str = LLM42,  # "module:function", called with the arguments
        spawns: bool = False,  # whether its own processes are spawned, as a user's are
    ) -> None:
        log_path.touch()
        self._log_path = log_path
        self._process = CONTEXT.Process(
            target=_run, args=(arguments, dict(env), log_path, program, spawns)
        )
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        """Its exit status, None while it runs; minus the signal that ended it."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Its exit status. Raises TimeoutError after `timeout` seconds and ends the session: Python
        waits for such a process when it exits, and would do so for ever. The error has the end of
        the log, which says what each of its processes was doing."""
        self._process.join(timeout)
        if self.returncode is None:
            os.killpg(self.pid, TELL)
            time.sleep(1)
            os.killpg(self.pid, signal.SIGKILL)
            log = self._log_path.read_text(errors="replace")[-20_000:]
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s\n{log}")
        return self.returncode


def preload(env: Mapping[str, str]) -> None:
    """Start the fork server; it imports while the tests do something else, and ends with them."""
    CONTEXT.set_forkserver_preload([*PRELOADED])
    with patch.dict(os.environ, env):
        forkserver.ensure_running()


def _run(
    arguments: Sequence[str], env: Mapping[str, str], log_path: Path, program: str, spawns: bool
) -> None:
    os.setsid()
    with log_path.open("wb") as log:
        for output in (1, 2):
            os.dup2(log.fileno(), output)
    os.environ.clear()
    os.environ.update(env)
    faulthandler.register(TELL)  # the processes that it forks have it too
    _as_if_imported_now()
    if not spawns:
        multiprocessing.set_start_method("fork", force=True)
        multiprocessing.set_start_method = lambda *args, **kwargs: None
    pkgutil.resolve_name(program)(arguments)


def _as_if_imported_now() -> None:
    """What modules have read from the environment when they were imported is read again."""
    import torch
    from sglang.srt.environ import envs
    from sglang.srt.managers import scheduler

    scheduler.TEST_RETRACT = envs.SGLANG_TEST_RETRACT.get()
    scheduler.TEST_RETRACT_INTERVAL = envs.SGLANG_TEST_RETRACT_INTERVAL.get()
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
