"""The servers that tests ask: a short list of named configurations, each started once a run."""

import re
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from llm42_sglang.cli.launch import ServerProcess
from llm42_sglang.cli.main import main
from tests.engine import client, installed, tiny_models
from tests.engine.preloaded import Forked
from tests.engine.two_nodes import Node, flags_of, new_address

# SGLang's own checks at their strictest: every leak or double free ends the server.
ENV = {
    "SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1",
    "SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_IDLE": "1",
    "SGLANG_CHECK_KV_PAGE_INVARIANTS": "1",
    "LLM42_CPU_LINEAR": "fp32",  # the same arithmetic on every host; see `platform.linear`
    "GOMP_SPINCOUNT": "2000",  # as our platform sets it for processes that SGLang spawns
}
# A core for each of two processes; SGLang wants to be told on a host with one NUMA node.
CORES = {"SGLANG_CPU_OMP_THREADS_BIND": "0|1", "OMP_NUM_THREADS": "1"}
# Every 7th decode step proposes wrong tokens, and every token is verified.
DECODE, VERIFIED = {"LLM42_FAULT": "decode"}, ("--llm42-verify", "always")
# Drafts change no bit: their answers must be those of servers without.
DRAFTS = ("--llm42-drafts", "ngram")

SMALL = ("--llm42-page", "16", "--llm42-group", "4")
# Certification looks at every size of a decode step up to the most that may run.
POOL = ("--max-total-tokens", "8000", "--chunked-prefill-size", "128")
POOL += ("--max-running-requests", "24")
# A small greedy model would fill JSON with blank lines for ever.
TOOLS = ("--constrained-json-disable-any-whitespace", "--tool-call-parser", "qwen25")
TENSOR, DATA = ("--tp-size", "2"), ("--dp-size", "2")


@dataclass(frozen=True)
class Configuration:
    """How a server is started. model: one of `tiny_models`, None for the embedded one."""

    model: str | None
    flags: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    # None: forked, see `preloaded`. Else it is started as users do, and SGLang spawns processes:
    # "serve", or "patched", which is that of `installed`.
    command: str | None = None
    signs: bool = False  # receipts, with a key of its own
    nodes: int = 1  # 2: over loopback, see `two_nodes`


BASE = (*SMALL, *POOL, *TOOLS)
MOE = (*SMALL, *POOL, *tiny_models.FP32)
# In the order in which they are started. At the end those that tests start by themselves.
CONFIGURATIONS: dict[str, Configuration] = {
    "tiny": Configuration("qwen3", (*BASE, "--llm42-default")),
    # Another loop, no --llm42-default, wrong candidates, and drafts.
    "faulty": Configuration(
        "qwen3",
        (*BASE, *VERIFIED, *DRAFTS, "--disable-overlap-schedule", "--enable-metrics"),
        DECODE,
        signs=True,
    ),
    # From a wheel. Narrower passes give other bits, so that only those of G slots may be used.
    "patched": Configuration("qwen3", BASE, {"LLM42_FAULT": "width"}, command="patched"),
    "other weights": Configuration("qwen3, one weight changed", (*BASE, "--llm42-default")),
    "retracting": Configuration(
        "qwen3",
        (*SMALL, *POOL, "--llm42-group", "2"),
        # Steps of an odd number of rows are not canonical.
        {
            "SGLANG_TEST_RETRACT": "1",
            "SGLANG_TEST_RETRACT_INTERVAL": "12",
            "LLM42_FAULT": "step",
        },
    ),
    "drifting": Configuration(
        "qwen3",
        (*SMALL, *POOL, "--llm42-group", "2", "--enable-metrics", "--max-running-requests", "4"),
        {"LLM42_FAULT": "step-later"},
    ),
    # It knows its weights by their version.
    "windows": Configuration(
        "gemma3",
        (*SMALL, *POOL, "--disable-hybrid-swa-memory", "--llm42-weights-digest", "version"),
    ),
    "two nodes": Configuration(
        "qwen3_moe", (*MOE, *TENSOR, *VERIFIED, *DRAFTS), DECODE | CORES, nodes=2
    ),
    "two replicas": Configuration("qwen3_moe", (*MOE, *DATA, *VERIFIED), DECODE | CORES, "serve"),
    "embedded": Configuration(None, ("--max-total-tokens", "20000", *TOOLS)),  # T, G by default
    "a rank strays": Configuration(
        "qwen3_moe", (*MOE, *TENSOR, *VERIFIED), {"LLM42_FAULT": "rank1,stray"} | CORES
    ),
    "no hooks": Configuration("qwen3", (*SMALL, *POOL), {"LLM42_FAULT": "no-scheduler,unbounded"}),
    # Certification refuses it. The KV of rank 1 alone is another one at every run.
    "rank 1": Configuration(
        "qwen3", (*SMALL, *POOL, *TENSOR), {"LLM42_FAULT": "rank1,a1-kv"} | CORES
    ),
}


class ForkedServer(ServerProcess):
    """A server that is forked from a process which has imported SGLang: see `preloaded`."""

    def _spawn(self) -> Forked:
        return Forked(["serve", "--port", str(self.port), *self.args], self.env, self.log_path)

    def stop(self) -> None:
        """Kill it: SGLang would take six seconds to end by itself."""
        if self._process is not None:
            self._remember_family()
            self._end(self._family, signal.SIGKILL)
            self._process = None


class TwoNodes(ForkedServer):
    """Node 0 is the server. Node 1 runs beside it, with the same flags."""

    def _spawn(self) -> Forked:
        address, alike = new_address(), self.args
        log_path = self.log_path.with_suffix(".node-1.log")
        self.other = Node([*alike, *flags_of(1, address)], self.env, log_path)
        self.args = [*alike, *flags_of(0, address)]
        return super()._spawn()

    def stop(self) -> None:
        """Kill both."""
        super().stop()
        self.other.kill()


class Servers:
    """Starts servers of the list; at most one runs, and none a second time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}  # of each start, by name
        self.name: str | None = None
        self.process: ServerProcess | None = None

    def url(self, name: str) -> str:
        """The URL of the running server of this name."""
        if name != self.name:
            self.stop()
            began = time.monotonic()
            process = self.make(name)
            process.start()
            self.name, self.process = name, process
            self.seconds[name] = time.monotonic() - began
        assert self.process.alive, f"the server {name!r} has ended:\n{self.process.log_tail()}"
        return self.process.url

    @property
    def configuration(self) -> Configuration:
        """That of the running server."""
        assert self.name is not None, "no server is running"
        return CONFIGURATIONS[self.name]

    def make(self, name: str) -> ServerProcess:
        """A server that the caller starts and stops; no other runs meanwhile."""
        self.stop()
        configuration = CONFIGURATIONS[name]
        assert name not in self.seconds, (
            f"the server {name!r} is started a second time; a start is expensive: mark its tests "
            "with its name, and they are run together"
        )
        self.seconds[name] = 0.0
        log_path = self.folder / f"{name.replace(' ', '-')}.log"
        options = {"log_path": log_path, "env": ENV | configuration.env}
        args = [*configuration.flags]
        if configuration.model:
            args += ["--model-path", str(tiny_models.make(configuration.model, self.folder))]
        if configuration.signs:
            args += ["--llm42-signing-key", str(key_in(self.folder))]
        if configuration.nodes == 2:
            return TwoNodes(args, **options)
        if configuration.command is None:
            return ForkedServer(args, **options)
        if configuration.command == "serve":
            return ServerProcess(args, **options)
        options["env"] |= installed.environment(self.folder)
        return ServerProcess(argv=[*installed.command(self.folder), *args], **options)

    def forget(self) -> ServerProcess:
        """The running server, which a test will end by itself."""
        process, self.process, self.name = self.process, None, None
        return process

    def stop(self) -> None:
        """Stop the running server; it must still be alive, idle, and have found no leak."""
        process, self.process, self.name = self.process, None, None
        if process is None:
            return
        alive = process.alive
        if alive:
            client.flush(process.url)  # a 200 only when nothing is left running
        log = process.log_path.read_text(errors="replace")
        process.stop()
        assert alive, f"the server ended by itself:\n{log[-3000:]}"
        assert "leak" not in log.lower(), log[-3000:]


def key_in(folder: Path) -> Path:
    """A new key, as `llm42 key` makes it."""
    file = folder / "signing.pem"
    with suppress(SystemExit):
        main(["key", str(file)])
    return file


def errors_in(log: str) -> list[str]:
    """What our processes have said before they left: one line each, without rank and replica."""
    return re.findall(r"^llm42: error(?: on rank \d of replica \d)?: (.*)", log, re.M)
