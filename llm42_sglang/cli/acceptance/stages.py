"""The parts of an acceptance run, each of which ends with a Result and never with an exception."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from llm42_sglang.cli.acceptance.matrix import matrix
from llm42_sglang.cli.acceptance.plan import Benchmark
from llm42_sglang.cli.acceptance.verdict import Result, Verdict
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.hardware import Gpu
from llm42_sglang.cli.launch import ServerError

# What a server logs when it is certified, and what it says when it is not.
CERTIFIED = re.compile(
    r"llm42: certified in (?P<seconds>[\d.]+) s: A1, A2 and A3 hold bitwise over "
    r"(?P<passes>\d+) passes, (?P<rows>\d+) rows .* passes of (?P<widths>[\d or]+) slots give the "
    r"same bits, (?:none from a CUDA graph|from CUDA graphs those of (?P<replayed>[\d or]+))"
)
FINGERPRINT = re.compile(r"llm42: fingerprint (\w+)")
REFUSED = re.compile(r"llm42: error: (.+)")
FAULT = "a2"  # makes the slot's index show in its logits: certification must see it


class Server(Protocol):
    """A server that runs inside `with`; ServerProcess is one."""

    url: str
    log_path: Path

    def __enter__(self) -> "Server": ...

    def __exit__(self, *error: Any) -> None: ...


@dataclass(frozen=True)
class Site:
    """The machine, as the stages use it."""

    gpus: Callable[[], list[Gpu]]
    server: Callable[[str, str | None], AbstractContextManager[Server] | Server]  # backend, fault
    bench: Callable[[Benchmark], dict[str, Any]]  # the benchmark's JSON; raises UserError


def backend_stages(site: Site, backend: str, new_tokens: int) -> Iterator[Result]:
    """Certification and determinism matrix on one backend, then a certification that must fail."""
    yield from _serve(site, backend, new_tokens)
    yield _timed(f"{backend}: a broken pass is refused", lambda: _broken(site, backend))


def bench_stages(site: Site, suite: Sequence[Benchmark]) -> Iterator[Result]:
    """One stage a benchmark."""
    for benchmark in suite:
        yield _timed(f"bench {benchmark.name}", lambda b=benchmark: _bench(site, b))


def _serve(site: Site, backend: str, new_tokens: int) -> Iterator[Result]:
    certification, determinism = f"{backend}: certification", f"{backend}: determinism matrix"
    began = time.monotonic()
    try:
        with site.server(backend, None) as server:
            certified = _certified(server.log_path)
            yield replace(certified, stage=certification, seconds=_since(began))
            yield _timed(determinism, lambda: matrix(server.url, new_tokens))
    except ServerError as error:
        yield Result(certification, Verdict.FAILED, _reason(error), {}, _since(began))


def _certified(log_path: Path) -> Result:
    log = log_path.read_text(errors="replace")
    found, fingerprint = CERTIFIED.search(log), FINGERPRINT.search(log)
    if found is None:
        return Result("", Verdict.FAILED, "the server is healthy, but has not said that it is so")
    data = {**found.groupdict(), "fingerprint": fingerprint[1] if fingerprint else None}
    return Result("", Verdict.PASSED, found[0].removeprefix("llm42: "), data)


def _broken(site: Site, backend: str) -> Result:
    """The negative control of certification."""
    try:
        with site.server(backend, FAULT):
            return Result("", Verdict.FAILED, f"served with LLM42_FAULT={FAULT}")
    except ServerError as error:
        said = _reason(error)
        verdict = Verdict.PASSED if "assumption A2" in said else Verdict.UNKNOWN
        return Result("", verdict, said)


def _bench(site: Site, benchmark: Benchmark) -> Result:
    return Result("", Verdict.PASSED, "measured; see the JSON", site.bench(benchmark))


def _timed(stage: str, run: Callable[[], Result]) -> Result:
    """The stage's result with its name and duration; what it raises is a failure."""
    began = time.monotonic()
    try:
        result = run()
    except UserError as error:
        result = Result("", Verdict.FAILED, str(error).splitlines()[0])
    return replace(result, stage=stage, seconds=_since(began))


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)


def _reason(error: ServerError) -> str:
    """The server's own line if it said one, else the first of the error."""
    said = REFUSED.findall(str(error))
    return said[-1] if said else str(error).splitlines()[0]
