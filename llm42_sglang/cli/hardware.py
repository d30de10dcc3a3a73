"""What a measurement depends on in this machine: processor, memory, GPUs, versions."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil


def gpu_names() -> list[str]:
    """The names of the GPUs that torch can use. There are none without NVIDIA's driver."""
    import torch

    if torch.version.cuda is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def hardware() -> dict[str, Any]:
    """The facts of this machine by name, as JSON types."""
    return {
        "cpu": _cpu_model(),
        "simd": _simd(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": ", ".join(gpu_names()) or "none",
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "sglang": version("sglang"),
    }


def _simd() -> str:
    """The vector instructions that torch's kernels use here, and those that multiply bf16."""
    import torch

    features = {
        torch.backends.cpu.get_cpu_capability(): True,
        "bf16": torch.cpu._is_avx512_bf16_supported(),
        "AMX": torch.cpu._is_amx_tile_supported(),
    }
    return ", ".join(name for name, has in features.items() if has)


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.machine())
