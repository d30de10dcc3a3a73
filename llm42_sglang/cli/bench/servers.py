"""The servers that are compared, on the same platform with the same flags."""

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
# Of our plugins only the platform's: without it stock SGLang does not run on a plain CPU.
STOCK_ENV = {"SGLANG_PLUGINS": "llm42_cpu"}
LEAST_KV_TOKENS = 20000


@dataclass(frozen=True, slots=True)
class Flags:
    """Of servers. Stock keeps its own defaults, overlap scheduling among them."""

    model: Path
    everywhere: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()  # those named --llm42-*

    @classmethod
    def of(cls, model: Path, arguments: Sequence[str], kv_tokens: int) -> "Flags":
        """From a command line's left-over arguments, with the values that follow them.

        Unless they say otherwise, the KV pool has `kv_tokens` tokens, or LEAST_KV_TOKENS.
        """
        everywhere: list[str] = []
        ours: list[str] = []
        to = everywhere
        for argument in arguments:
            if argument.startswith("--"):
                to = ours if argument.startswith("--llm42-") else everywhere
            to.append(argument)
        if not any(flag.partition("=")[0] == "--max-total-tokens" for flag in everywhere):
            everywhere += ["--max-total-tokens", str(max(kv_tokens, LEAST_KV_TOKENS))]
        return cls(model, tuple(everywhere), tuple(ours))

    @property
    def text(self) -> str:
        """What was given, for the workload."""
        return " ".join([*self.everywhere, *self.ours])

    @property
    def common(self) -> tuple[str, ...]:
        """Of every server. An idle one sleeps: it must not take the cores of the loaded one."""
        own = ("--model-path", str(self.model), "--random-seed", "1", "--sleep-on-idle")
        return (*own, *self.everywhere)


def stock(flags: Flags, name: str = "stock", more: Sequence[str] = ()) -> ServerProcess:
    """SGLang without any llm42 hook."""
    argv = [*STOCK, *flags.common, *more]
    return ServerProcess(argv=argv, env=STOCK_ENV, log_path=log_path(name))


def serial(flags: Flags) -> ServerProcess:
    """The same, one request at a time: deterministic because nothing is batched."""
    return stock(flags, "serial", ("--max-running-requests", "1"))


def ours(flags: Flags) -> ServerProcess:
    """`llm42 serve`."""
    return ServerProcess([*flags.common, *flags.ours], log_path=log_path("llm42"))


@contextmanager
def running(**processes: ServerProcess) -> Iterator[dict[str, Target]]:
    """All of them at once, one started after the other; by name."""
    with ExitStack() as stack:
        for name, process in processes.items():
            say(f"starting {name}: about a minute; log: {process.log_path}")
            stack.enter_context(process)
        yield {name: Target(one.url, name == "llm42") for name, one in processes.items()}


def log_path(name: str) -> Path:
    """Of a server, or of what runs in a process of its own."""
    return cache_dir() / "logs" / f"bench-{name}.log"
