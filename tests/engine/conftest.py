"""Real servers, one at a time: a test that needs another configuration stops the current one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from llm42_sglang.cli.launch import ServerProcess
from llm42_sglang.cli.main import main
from tests.engine import client, tiny_models

# SGLang's own checks at their strictest: every leak or double free ends the server.
ENV = {
    "SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1",
    "SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_IDLE": "1",
    "SGLANG_CHECK_KV_PAGE_INVARIANTS": "1",
    # The same arithmetic on every host; see `platform.linear`.
    "LLM42_CPU_LINEAR": "fp32",
}


# Prompts that end before, at and after a page's end, a chat, and one that is sampled.
SUITE = """
sampling: {max_tokens: 40, ignore_eos: true}
cases:
  - {id: short, prompt: The moon is}
  - {id: long, prompt: "%s"}
  - {id: chat, messages: [{role: user, content: Name three colours.}]}
  - {id: sampled, prompt: A song about the sea, sampling: {temperature: 0.9, seed: 7}}
""" % ("Once upon a time there was a small town by the sea. " * 5)


def llm42(*arguments: object) -> int:
    """Run a command in this process; its exit status."""
    with pytest.raises(SystemExit) as left:
        main(list(map(str, arguments)))
    return left.value.code


@dataclass(frozen=True)
class Server:
    """A configuration. Small chunks, so that long prompts are prefilled in several."""

    args: tuple[str, ...] = (
        *("--max-total-tokens", "20000", "--chunked-prefill-size", "256"),
        # A small greedy model would fill JSON with blank lines for ever.
        *("--constrained-json-disable-any-whitespace", "--tool-call-parser", "qwen25"),
        "--llm42-default",
    )
    env: tuple[tuple[str, str], ...] = ()
    argv: tuple[str, ...] | None = None  # another command than `llm42 serve`; `args` follow it


@dataclass
class Servers:
    """Starts servers on demand; at most one runs."""

    logs: Path
    server: Server | None = None
    process: ServerProcess | None = None
    started: int = 0
    reference: list = field(default_factory=list)

    def url(self, server: Server) -> str:
        """The URL of a running server of this configuration."""
        if server != self.server or not self.process.alive:
            self.stop()
            self.started += 1
            log_path = self.logs / f"server-{self.started}.log"
            env = ENV | dict(server.env)
            argv = None if server.argv is None else [*server.argv, *server.args]
            self.process = ServerProcess(server.args, argv=argv, log_path=log_path, env=env)
            self.process.start()
            self.server = server
        return self.process.url

    def stop(self) -> None:
        """Stop the running server; it must still be alive and have found no leak."""
        process, self.process, self.server = self.process, None, None
        if process is None:
            return
        alive, log = process.alive, process.log_path.read_text(errors="replace")
        process.stop()
        assert alive, f"the server ended by itself:\n{log[-3000:]}"
        assert "leak" not in log.lower(), log[-3000:]


BASE = Server()
# Every 7th decode step proposes wrong tokens; no --llm42-default; and the loop without overlap.
FAULTY = Server(
    (*BASE.args[:-1], "--disable-overlap-schedule", "--enable-metrics"),
    env=(("LLM42_FAULT", "decode"),),
)


# A core for each of two processes; SGLang wants to be told on a host with one NUMA node.
CORES = {"SGLANG_CPU_OMP_THREADS_BIND": "0|1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def servers(tmp_path_factory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("servers"))
    try:
        yield servers
    finally:
        servers.stop()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Callable[..., Server]:
    """A configuration that serves a tiny model: its architecture, then flags and environment."""
    folder = tmp_path_factory.mktemp("models")

    def configure(architecture: str, *flags: str, **env: str) -> Server:
        model = ("--model-path", str(tiny_models.make(architecture, folder)))
        size = ("--max-total-tokens", "8000", "--chunked-prefill-size", "256")
        group = ("--llm42-group", "4")
        return Server((*model, *size, *group, *flags), tuple(env.items()))

    return configure


@pytest.fixture
def url(servers, request) -> str:
    """A running server of the module's `SERVER` configuration."""
    return servers.url(getattr(request.module, "SERVER", BASE))


@pytest.fixture(scope="session")
def reference(servers) -> list[client.Answer]:
    """Every prompt alone and in order, on the base server: what all other runs must reproduce."""
    return client.run(servers.url(BASE), in_flight=1)


@pytest.fixture(scope="session")
def golden(servers, tmp_path_factory) -> Path:
    """SUITE as recorded on the base server; its receipts are in the folder `receipts` beside it."""
    folder = tmp_path_factory.mktemp("golden")
    suite, out = folder / "suite.yaml", folder / "golden.json"
    suite.write_text(SUITE)
    url = servers.url(BASE)
    arguments = ("--url", url, "--out", out, "--receipts", folder / "receipts")
    assert llm42("record", suite, *arguments) == 0
    return out
