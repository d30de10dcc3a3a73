"""Two nodes over loopback, each forked as `servers.ForkedServer` is. Node 0 is the server."""

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from llm42_sglang.cli.launch import HOST, free_port
from tests.engine.preloaded import LLM42, Forked

WAIT_S = 60


def flags_of(node: int, address: str, nodes: int = 2) -> list[str]:
    """The flags that make a server one of several nodes."""
    return ["--nnodes", str(nodes), "--node-rank", str(node), "--dist-init-addr", address]


def new_address() -> str:
    """Where nodes can meet."""
    return f"{HOST}:{free_port()}"


class Node:
    """A node other than the first: it has no server to ask, only processes and a log."""

    def __init__(
        self, args: Sequence[str], env: dict[str, str], log_path: Path, program: str = LLM42
    ) -> None:
        self.log_path = log_path
        arguments = ["serve", "--port", str(free_port()), *args]
        self.process = Forked(arguments, env, log_path, program)

    def schedulers(self) -> list[psutil.Process]:
        """Its scheduler processes."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [each for each in family if "scheduler" in " ".join(each.cmdline() or [each.name()])]

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(WAIT_S)

    def kill(self) -> None:
        """End all of its processes at once, as if its machine were gone."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
