"""An SGLang platform for hosts without an accelerator.

SGLang's own CPU engine needs AMX and a CPU build of sgl_kernel. This platform runs the plain PyPI
wheel on any x86 or Arm host. It is not used where SGLang has a device of its own.
"""

import os

PLATFORM_CLASS = "llm42_sglang.platform.cpu.PlainCpuPlatform"
SWITCH = "LLM42_PLATFORM"  # "off" leaves platform selection to SGLang


def activate() -> str | None:
    """Return the name of the platform class, or None to decline.

    This is the entry point that SGLang calls (`sglang.srt.platforms`).
    """
    if os.environ.get(SWITCH) == "off" or os.environ.get("SGLANG_USE_CPU_ENGINE") == "1":
        return None
    if _has_accelerator():
        return None
    # In the server's processes a waiting OpenMP thread spins briefly, then sleeps. By default it
    # spins on. As soon as anything else runs on the host, it then holds the core that the thread
    # it waits for needs, and a GEMM of 4 to 64 rows takes ten times as long.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    return PLATFORM_CLASS


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available() or torch.cuda.is_available()
