"""Nodes as processes on this machine: how each is started, what it says, and how it ends."""

import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from sglang.srt.utils import kill_process_tree

from llm42_sglang.cli.launch import HOST, free_port
from llm42_sglang.cli.main import main as llm42
from llm42_sglang.errors import UserError
from tests.engine import client
from tests.engine.preloaded import LLM42, Forked
from tests.engine.servers import CORES, ENV, errors_in

OLDER, STOCK = "tests.engine.started:older", "tests.engine.started:stock"
WATCHDOG = re.compile(r"\w+ watchdog timeout .*")  # SGLang's own line


def older(arguments: Sequence[str]) -> None:
    """`llm42` of another version."""
    from llm42_sglang.engine.start import fingerprint

    fingerprint.__version__ = "0.0.1"
    llm42(arguments)


def stock(arguments: Sequence[str]) -> None:
    """`python -m sglang.launch_server`, without our flags."""
    from sglang.launch_server import run_server
    from sglang.srt.server_args import prepare_server_args

    ours = [i for i, flag in enumerate(arguments) if flag.startswith("--llm42")]
    dropped = {0, *ours, *(i + 1 for i in ours)}
    plain = [word for i, word in enumerate(arguments) if i not in dropped]
    run_server(prepare_server_args([*plain, "--page-size", "16", "--device", "cpu"]))


@dataclass(frozen=True)
class One:
    """How one node is started, where it is not as usual."""

    flags: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    program: str = LLM42
    model: str = "qwen3"
    rank: int | None = None  # another --node-rank
    spawns: bool = False  # as a user's does: a fork has asked what the CPU can do already


class Nodes:
    """Started nodes, and their logs."""

    def __init__(self, folder: Path, name: str, argvs: Sequence[tuple[One, list[str]]]) -> None:
        self.began = time.monotonic()
        self.url = ""
        self.ours = [i for i, (one, _) in enumerate(argvs) if one.program != STOCK]
        self.logs = [folder / f"{name}.{i}.log" for i in range(len(argvs))]
        self.processes = []
        for log, (one, argv) in zip(self.logs, argvs, strict=True):
            port = free_port()
            self.url = self.url or f"http://{HOST}:{port}"
            env = os.environ | ENV | CORES | dict(one.env)
            arguments = ["serve", "--port", str(port), *argv]
            self.processes.append(Forked(arguments, env, log, one.program, one.spawns))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def serve(self, within: float) -> bool:
        """Whether node 0 is healthy, once that is clear."""
        while self.seconds < within and any(p.poll() is None for p in self.processes):
            with suppress(httpx.HTTPError, UserError):
                if client.get(self.url, "/health").status_code == 200:
                    return True
            time.sleep(0.5)
        return False

    def ends(self, within: float = 60) -> list[int | None]:
        """The status with which each node has ended, None if it still runs then."""
        began = time.monotonic()
        while time.monotonic() - began < within and None in (ends := self._statuses()):
            time.sleep(0.2)
        return ends

    def _statuses(self) -> list[int | None]:
        return [process.poll() for process in self.processes]

    def scheduler(self, node: int) -> psutil.Process:
        """The first process that the node has started."""
        family = psutil.Process(self.processes[node].pid).children(recursive=True)
        return min(family, key=lambda process: process.pid)

    def said(self) -> list[str]:
        """Every line of ours, and of SGLang's watchdog, once."""
        logs = [log.read_text(errors="replace") for log in self.logs]
        lines = (line for log in logs for line in (*errors_in(log), *WATCHDOG.findall(log)))
        return list(dict.fromkeys(lines))

    def kill(self) -> None:
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                kill_process_tree(process.pid)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
