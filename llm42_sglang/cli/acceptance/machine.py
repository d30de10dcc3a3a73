"""What is here."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from llm42_sglang.cli.bench.report import hardware

PACKAGES = ("sglang", "torch", "triton", "flashinfer-python", "sglang-kernel", "flash-attn-4")


class Gpu(NamedTuple):
    """One NVIDIA GPU."""

    name: str
    capability: tuple[int, int]  # compute capability: (9, 0) is Hopper
    memory_gib: float


def gpus() -> list[Gpu]:
    """Those that torch can use; none on a machine without NVIDIA's driver."""
    import torch

    if torch.version.cuda is None or not torch.cuda.is_available():
        return []
    found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [Gpu(p.name, (p.major, p.minor), round(p.total_memory / 2**30, 1)) for p in found]


def environment(found: list[Gpu]) -> dict[str, Any]:
    """JSON types; of a package that is not installed: None."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {"gpus": [gpu._asdict() for gpu in found], "packages": versions, **hardware()}
