"""Acceptance on a GPU: `scripts/gpu_acceptance`. Elsewhere every test here is skipped."""

from typing import Any

import pytest
import torch

from llm42_sglang.cli.hardware import gpu_names


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--model", metavar="FOLDER", help="a model to serve; default: the embedded one"
    )


@pytest.fixture(scope="session")
def gpu() -> Any:
    """The first one's properties, as torch has them."""
    if not gpu_names():
        pytest.skip("no NVIDIA GPU here; scripts/gpu_acceptance needs a machine with one")
    return torch.cuda.get_device_properties(0)


@pytest.fixture(scope="session")
def model(request) -> tuple[str, ...]:
    """The flags that choose it."""
    folder = request.config.getoption("--model", default=None)
    return ("--model-path", folder) if folder else ()
