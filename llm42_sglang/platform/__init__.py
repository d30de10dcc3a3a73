"""An out-of-tree SGLang platform for hosts that have no accelerator at all.

Stock SGLang's CPU engine wants a CPU build of sgl_kernel and AMX. This platform runs the plain PyPI
wheel on any x86 or Arm host. It stays out of the way wherever SGLang has a device of its own.
"""

import os

PLATFORM_CLASS = "llm42_sglang.platform.cpu.PlainCpuPlatform"
SWITCH = "LLM42_PLATFORM"  # "off" leaves platform selection to SGLang


def activate() -> str | None:
    """Entry point of `sglang.srt.platforms`: the platform class, or None to decline."""
    if os.environ.get(SWITCH) == "off" or os.environ.get("SGLANG_USE_CPU_ENGINE") == "1":
        return None
    if _has_accelerator():
        return None
    # For the processes to come: OpenMP threads spin briefly, then sleep. Spinning on, as is the
    # default, they take the very core that the thread they wait for needs, as soon as anything
    # else runs on the host: a GEMM of 4 to 64 rows takes ten times as long.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    return PLATFORM_CLASS


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available() or torch.cuda.is_available()
