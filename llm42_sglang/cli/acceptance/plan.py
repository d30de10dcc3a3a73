"""What is run, on which GPU."""

from collections.abc import Sequence
from typing import NamedTuple

from llm42_sglang.cli.hardware import Gpu

# Lowest and highest major compute capability; SGLang's create_flashattention_v3_backend has FA3's.
BACKENDS = {
    "flashinfer": (8, 12),
    "fa3": (8, 9),
    "fa4": (9, 12),
    "triton": (8, 12),
}

# LLM-42's shares of deterministic traffic, and its six kinds of lengths as `workload.MIXES` has
# them: a plausible choice, not the paper's list. Three servers share the GPU.
SHARES = "0,2,5,10,20,50,100"
TOGETHER = ("--mem-fraction-static", "0.25")
MIXES = ("mixed", "512x256", "1024x256", "1024x512", "2048x256", "4096x512")
QUICK_MIXES = MIXES[:1]


class Benchmark(NamedTuple):
    """One `llm42 bench` command."""

    name: str
    arguments: tuple[str, ...]


def backends_for(gpu: Gpu, wanted: Sequence[str] | None = None) -> list[str]:
    """Those that the GPU can run, in the order of the table; or the wanted ones, run or not."""
    major = gpu.capability[0]
    fit = [name for name, (low, high) in BACKENDS.items() if low <= major <= high]
    return fit if wanted is None else list(wanted)


def benchmarks(model: str | None, quick: bool, backend: str) -> list[Benchmark]:
    """The suite. The backend is named: SGLang's own choice may have no canonical mode."""
    common = (*TOGETHER, "--attention-backend", backend, *(("--model", model) if model else ()))
    mixes = QUICK_MIXES if quick else MIXES
    suite = [
        Benchmark(f"throughput {mix}", ("throughput", "--shares", SHARES, "--mix", mix, *common))
        for mix in mixes
    ]
    suite.append(Benchmark("latency", ("latency", "--loads", "closed,2,8", *common)))
    suite.append(Benchmark("passes", ("passes", *common)))
    return suite
