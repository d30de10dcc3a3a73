"""Acceptance on a GPU: `scripts/gpu_acceptance`. Elsewhere every test here is skipped."""

import pytest

from llm42_sglang.cli.hardware import Gpu, gpus


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--model", metavar="FOLDER", help="a model to serve; default: the embedded one"
    )


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    """The first one."""
    if not (found := gpus()):
        pytest.skip("no NVIDIA GPU here; scripts/gpu_acceptance needs a machine with one")
    return found[0]


@pytest.fixture(scope="session")
def model(request) -> tuple[str, ...]:
    """The flags that choose it."""
    folder = request.config.getoption("--model", default=None)
    return ("--model-path", folder) if folder else ()
