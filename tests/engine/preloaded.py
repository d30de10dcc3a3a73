"""A process that has imported SGLang and forks what tests start: seconds instead of half a minute.

A server consists of three processes, each of which imports SGLang; that takes most of its start.
Here it is imported once. Everything else happens as in a server that a user starts: the command
line, the plugin's entry point, certification, the processes and what they say to each other. Only
SGLang's own processes are forked too, where SGLang would spawn them. What depends on a fresh
import is tested by the servers that are started as users do (`servers.CONFIGURATIONS`).

    python -m tests.engine.preloaded     answers one JSON request a line
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

SERVE = ("llm42_sglang.cli.main", "main")
PRELOADED = (
    "sglang.launch_server",
    "sglang.srt.entrypoints.http_server",
    "sglang.srt.managers.scheduler",
    "sglang.srt.managers.data_parallel_controller",
    "sglang.srt.managers.detokenizer_manager",
    "sglang.srt.models.registry",
    "llm42_sglang.engine.launch",
    SERVE[0],
)
POLL_S = 0.05


class Forked:
    """A process that the preloaded one has forked; as much of `subprocess.Popen` as is needed."""

    def __init__(self, preloaded: "Preloaded", pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._preloaded = preloaded

    def poll(self) -> int | None:
        """Its exit status, None while it runs; minus the signal that ended it."""
        if self.returncode is None:
            self.returncode = self._preloaded.say(poll=self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Its exit status. Raises TimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
            time.sleep(POLL_S)
        return status


class Preloaded:
    """The process; it starts at once and imports while the tests do something else."""

    def __init__(self, log_path: Path, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.preloaded"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log_path.open("wb"),
            env={**os.environ, **env},
            text=True,
        )

    def fork(
        self,
        function: Sequence[str],
        arguments: Sequence[str],
        env: Mapping[str, str],
        log_path: Path,
    ) -> Forked:
        """Call `function` (module, name) with `arguments` in a process of its own, session of its
        own, output to the log. `env` is its whole environment."""
        call = {"function": [*function], "arguments": [*arguments], "env": dict(env)}
        return Forked(self, self.say(fork=call | {"log": str(log_path)}))

    def say(self, **request) -> int | None:
        """One request, and its answer."""
        assert self._process.poll() is None, "the preloaded process has ended"
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def stop(self) -> None:
        """End the process; those it has forked go on."""
        self._process.stdin.close()
        self._process.wait(timeout=60)


def main() -> None:
    """Import, then answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever imports print must not pass for an answer
    for module in PRELOADED:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        answer = _fork(request["fork"]) if "fork" in request else _status(request["poll"])
        print(json.dumps(answer), file=answers, flush=True)


def _status(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _fork(call: dict) -> int:
    if pid := os.fork():
        return pid
    status = 1
    try:
        status = _run(call)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _run(call: dict) -> int:
    """In the child: call the function; the exit status, by the rules of `sys.exit`."""
    os.setsid()
    for number, (path, flags) in enumerate(
        ((os.devnull, os.O_RDONLY), (call["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
    ):
        file = os.open(path, flags)
        os.dup2(file, number)
        os.close(file)
    os.dup2(1, 2)
    os.environ.clear()
    os.environ.update(call["env"])
    _as_if_imported_now()
    module, name = call["function"]
    try:
        getattr(importlib.import_module(module), name)(call["arguments"])
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return left.code or 0
        print(left.code, file=sys.stderr)
        return 1
    return 0


def _as_if_imported_now() -> None:
    """What modules have read from the environment when they were imported is read again; and
    processes are forked from now on, whatever SGLang says."""
    import torch
    from sglang.srt.environ import envs
    from sglang.srt.managers import scheduler

    scheduler.TEST_RETRACT = envs.SGLANG_TEST_RETRACT.get()
    scheduler.TEST_RETRACT_INTERVAL = envs.SGLANG_TEST_RETRACT_INTERVAL.get()
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    multiprocessing.set_start_method("fork", force=True)
    multiprocessing.set_start_method = lambda *args, **kwargs: None


if __name__ == "__main__":
    main()
