"""What is here."""

from typing import Any

from llm42_sglang.cli.hardware import Gpu, hardware, package_version

PACKAGES = ("sglang", "torch", "triton", "flashinfer-python", "sglang-kernel", "flash-attn-4")


def environment(found: list[Gpu]) -> dict[str, Any]:
    """JSON types; of a package that is not installed: None."""
    versions = {package: package_version(package) for package in PACKAGES}
    return hardware() | {"gpus": [gpu._asdict() for gpu in found], "packages": versions}
