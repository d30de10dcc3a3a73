"""The command behind `scripts/gpu_acceptance`."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llm42_sglang.cli.acceptance import machine, plan, report
from llm42_sglang.cli.acceptance.plan import Benchmark
from llm42_sglang.cli.acceptance.stages import Site, backend_stages, bench_stages
from llm42_sglang.cli.acceptance.verdict import Result
from llm42_sglang.cli.errors import UserError
from llm42_sglang.cli.hardware import Gpu, gpus
from llm42_sglang.cli.launch import ServerProcess, leave_on_signals
from llm42_sglang.cli.progress import say

ACCEPTED, NOT_ACCEPTED, NO_GPU = 0, 1, 3
NEW_TOKENS = 256
START_S = 1800  # weights, kernels that are compiled, graphs
BENCH_S = 6 * 3600


def main(argv: Sequence[str] | None = None, make_site: Callable[..., Site] | None = None) -> int:
    """Run everything; returns the exit status. `make_site`: of (model, folder, server flags)."""
    options, server_flags = _parser().parse_known_args(argv)
    site = (make_site or real_site)(options.model, options.out, server_flags)
    found = site.gpus()
    if not found:
        say("no NVIDIA GPU here: nothing was run; scripts/gpu_acceptance needs a machine with one")
        return NO_GPU
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        results = _run(site, found, options)
    except (UserError, OSError) as error:
        say(f"error: {error}")
        return NOT_ACCEPTED
    say(f"the report is in {options.out / 'acceptance.md'}")
    return ACCEPTED if report.passed(results) else NOT_ACCEPTED


def _run(site: Site, found: list[Gpu], options: argparse.Namespace) -> list[Result]:
    environment = machine.environment(found)
    backends = plan.backends_for(found[0], options.backends)
    say(f"{found[0].name}: {', '.join(backends)}; then the benchmarks")
    results: list[Result] = []
    for result in _stages(site, backends, options):
        results.append(result)
        report.write(options.out, environment, results)
        say(f"{result.verdict.value}: {result.stage}: {result.finding}")
    return results


def _stages(site: Site, backends: list[str], options: argparse.Namespace) -> Iterator[Result]:
    for backend in backends:
        yield from backend_stages(site, backend, options.new_tokens)
    if not options.no_bench:
        yield from bench_stages(site, plan.benchmarks(options.model, options.quick, backends[0]))


def real_site(model: str | None, folder: Path, server_flags: Sequence[str]) -> Site:
    """This machine."""

    def server(backend: str, fault: str | None) -> ServerProcess:
        flags = ["--attention-backend", backend, *server_flags]
        return ServerProcess(
            [*(["--model-path", model] if model else []), *flags],
            log_path=folder / f"server-{backend}{'-broken' if fault else ''}.log",
            env={"LLM42_FAULT": fault} if fault else {},
            deadline_s=START_S,
        )

    return Site(gpus, server, lambda benchmark: run_bench(benchmark, folder))


def run_bench(benchmark: Benchmark, folder: Path) -> dict[str, Any]:
    """`llm42 bench ...` in a process of its own; its output goes to a log. Raises UserError."""
    log = folder / f"bench-{benchmark.name.replace(' ', '-')}.log"
    with TemporaryDirectory() as scratch, log.open("wb") as output:
        out = Path(scratch) / "result.json"
        command = [sys.executable, "-m", "llm42_sglang.cli.main", "bench", *benchmark.arguments]
        try:
            done = subprocess.run(
                [*command, "--out", str(out)], stdout=output, stderr=output, timeout=BENCH_S
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"not done after {BENCH_S} s; see {log}") from None
        if done.returncode != 0 or not out.is_file():
            raise UserError(f"status {done.returncode}; see {log}")
        return json.loads(out.read_text())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/gpu_acceptance",
        description="Certification, determinism matrix and benchmarks on every attention backend "
        "of a GPU; other flags go to the servers of the first two. Status 0: all passed; 1: "
        "something did not; 3: no NVIDIA GPU here.",
    )
    parser.add_argument("--model", help="a model's folder; default: the embedded one")
    parser.add_argument("--backends", nargs="+", help="attention backends; default: all that fit")
    parser.add_argument("--out", type=Path, default=Path("gpu-acceptance"), help="folder")
    parser.add_argument("--new-tokens", type=int, default=NEW_TOKENS, help="per answer")
    parser.add_argument("--quick", action="store_true", help="one mix of lengths")
    parser.add_argument("--no-bench", action="store_true", help="no benchmarks")
    return parser


if __name__ == "__main__":
    leave_on_signals()
    sys.exit(main())
