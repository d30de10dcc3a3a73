"""The servers that traces play on, and what their traces are made of.

Most are servers of the test suite; the others are started by `scripts/soak` alone.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from llm42_sglang.cli.launch import ServerProcess
from tests.engine import tiny_models
from tests.engine.servers import BASE, CONFIGURATIONS, ENV, Configuration, ForkedServer, key_in
from tests.engine.weights import Weights
from tests.fire.alone import Oracle
from tests.fire.judge import Judgement, judge, read
from tests.fire.play import record
from tests.fire.seeded import Mixture
from tests.fire.trace import CHANGED, NONE, PLAIN, Trace

MIXTURE = Mixture(seconds=12, per_second=40, requests=63)
PRIORITIES = (
    *("--enable-priority-scheduling", "--priority-scheduling-preemption-threshold", "0"),
    *("--retraction-policy", "priority", "--max-running-requests", "8"),
    *("--max-queued-requests", "48"),
)


@dataclass(frozen=True)
class Place:
    """A server, and the mixture of its traces."""

    configuration: Configuration
    mixture: Mixture = MIXTURE


PLACES = {
    "tiny": Place(CONFIGURATIONS["tiny"]),
    "retracting": Place(CONFIGURATIONS["retracting"]),
    "faulty": Place(CONFIGURATIONS["faulty"]),
    "updates": Place(
        replace(CONFIGURATIONS["other weights"], model="qwen3"),
        replace(MIXTURE, requests=42, weights=(PLAIN, CHANGED, CHANGED, NONE)),
    ),
    # Two long requests fill it, and SGLang lets in more than it has room for.
    "small pool": Place(
        Configuration(
            "qwen3",
            (*BASE, "--max-total-tokens", "640", "--schedule-conservativeness", "0.1"),
        )
    ),
    "priorities": Place(
        Configuration("qwen3", (*BASE, "--max-total-tokens", "1600", *PRIORITIES)),
        replace(MIXTURE, priorities=3),
    ),
}


class Playground:
    """A server of PLACES that traces are played on; a new one whenever one has failed."""

    def __init__(self, name: str, folder: Path):
        """folder: for its log and its models."""
        self.name = name
        self.folder = folder
        self._server: ServerProcess | None = None
        self._oracle: Oracle | None = None
        self._starts = 0

    def __enter__(self) -> "Playground":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def play(self, trace: Trace, history: Path) -> Judgement:
        """Play a trace, and judge its history. Whatever comes in between is part of it."""
        if self._server is None:
            self._start()
        assert self._server is not None and self._oracle is not None
        broken = []
        try:
            record(trace, history, self._oracle)
        except Exception as error:
            broken.append(f"{type(error).__name__}: {error}")
        found = judge(read(history))
        log = self._server.log_path.read_text(errors="replace")
        if not self._server.alive:
            broken.append("the server ended by itself: " + " ".join(log[-600:].split()))
        if "leak" in log.lower():
            broken.append("the log speaks of a leak")
        if broken or found.wrong:
            self._stop()
        found.wrong += broken
        return found

    def _start(self) -> None:
        configuration = PLACES[self.name].configuration
        assert configuration.model and not configuration.command, self.name
        model = tiny_models.make(configuration.model, self.folder)
        args = [*configuration.flags, "--model-path", str(model)]
        if configuration.signs:
            args += ["--llm42-signing-key", str(key_in(self.folder))]
        log = self.folder / f"{self.name}-{self._starts}.log".replace(" ", "-")
        server = ForkedServer(args, log_path=log, env=ENV | configuration.env)
        server.start()
        updated = PLACES[self.name].mixture.weights
        weights = Weights(server.url, self.folder, configuration.model) if updated else None
        self._server, self._oracle = server, Oracle(server.url, weights)
        self._starts += 1

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()
