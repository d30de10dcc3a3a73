"""The servers that a benchmark compares. They have the same platform and the same flags."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from llm42_sglang.cli.bench.load import Target
from llm42_sglang.cli.cache import cache_dir
from llm42_sglang.cli.launch import ServerProcess
from llm42_sglang.cli.output import say

STOCK = (sys.executable, "-m", "sglang.launch_server", "--port", "{port}")
# Stock SGLang gets our platform plugin only, without which it does not run on a plain CPU.
STOCK_ENV = {"SGLANG_PLUGINS": "llm42_cpu"}
STOCK_NAMES = ("stock", "serial")
LEAST_KV_TOKENS = 20000


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of all servers. Stock SGLang has its own defaults otherwise, such as overlap."""

    model: Path
    everywhere: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()  # those named --llm42-*

    @classmethod
    def of(cls, model: Path, arguments: Sequence[str], kv_tokens: int) -> "Flags":
        """Sort the arguments of a command line that the command does not know itself.

        A value belongs to the flag before it. Unless a flag sets it, the size of the KV pool is
        `kv_tokens`, but at least LEAST_KV_TOKENS.
        """
        everywhere: list[str] = []
        ours: list[str] = []
        target = everywhere
        for argument in arguments:
            if argument.startswith("--"):
                target = ours if argument.startswith("--llm42-") else everywhere
            target.append(argument)
        if not any(flag.partition("=")[0] == "--max-total-tokens" for flag in everywhere):
            everywhere += ["--max-total-tokens", str(max(kv_tokens, LEAST_KV_TOKENS))]
        return cls(model, tuple(everywhere), tuple(ours))

    @property
    def text(self) -> str:
        """The flags as they were given, to be printed with the workload."""
        return " ".join([*self.everywhere, *self.ours])

    @property
    def common(self) -> tuple[str, ...]:
        """The flags of every server. Idle servers sleep, so that the loaded one has all cores."""
        own = ("--model-path", str(self.model), "--random-seed", "1", "--sleep-on-idle")
        return (*own, *self.everywhere)


def stock(flags: Flags, name: str = "stock", more: Sequence[str] = ()) -> ServerProcess:
    """A stock SGLang server, without any llm42 hook."""
    argv = [*STOCK, *flags.common, *more]
    return ServerProcess(argv=argv, env=STOCK_ENV, log_path=log_path(name))


def serial(flags: Flags) -> ServerProcess:
    """A stock server that runs one request at a time, so is deterministic without batching."""
    return stock(flags, "serial", ("--max-running-requests", "1"))


def ours(flags: Flags, name: str = "llm42", more: Sequence[str] = ()) -> ServerProcess:
    """An `llm42 serve` server."""
    return ServerProcess([*flags.common, *flags.ours, *more], log_path=log_path(name))


@contextmanager
def running(**processes: ServerProcess) -> Iterator[dict[str, Target]]:
    """Run all servers, started one after the other. Yields them by name."""
    with ExitStack() as stack:
        for name, process in processes.items():
            say(f"starting {name}: about a minute; log: {process.log_path}")
            stack.enter_context(process)
        yield {
            name: Target(server.url, name not in STOCK_NAMES) for name, server in processes.items()
        }


def log_path(name: str) -> Path:
    """The log of a server or of another process of a benchmark."""
    return cache_dir() / "logs" / f"bench-{name}.log"
