"""Every attention backend that the GPU runs: certified, deterministic, and refused when broken.

What a server says of itself goes into the report (`record_property`). Not yet run on a GPU; by hand
on a CPU, with torch_native in place of BACKENDS.
"""

import json
from collections.abc import Callable

import pytest

from llm42_sglang.cli.hardware import hardware
from llm42_sglang.cli.launch import ServerError, ServerProcess
from llm42_sglang.core.receipts import FACTS_PATH
from tests.engine import client, matrix, tiny_models
from tests.engine.servers import DECODE, ENV, POOL, VERIFIED

pytestmark = [pytest.mark.gpu, pytest.mark.server]

# Lowest and highest major compute capability; SGLang's create_flashattention_v3_backend has FA3's.
BACKENDS = {"flashinfer": (8, 12), "fa3": (8, 9), "fa4": (9, 12), "triton": (8, 12)}
SHAPE = {"page": 16, "group": 8}
START_S = 1500  # weights, kernels that are compiled, graphs


@pytest.fixture(params=BACKENDS)
def backend(request, gpu) -> str:
    """One that this GPU can run."""
    major = gpu.major
    low, high = BACKENDS[request.param]
    if not low <= major <= high:
        pytest.skip(f"{request.param} does not run on {gpu.name}, of compute capability {major}")
    return request.param


@pytest.fixture
def server(gpu, tmp_path) -> Callable[..., ServerProcess]:
    """Makes one, not started yet: flags, then a fault."""

    def make(*flags: str, fault: dict[str, str]) -> ServerProcess:
        shape = [part for name, value in SHAPE.items() for part in (f"--llm42-{name}", str(value))]
        log_path = tmp_path / "server.log"
        env = ENV | fault
        return ServerProcess(
            [*POOL, *shape, *flags], log_path=log_path, env=env, deadline_s=START_S
        )

    return make


def require_deterministic(url: str, backend: str, record: Callable[[str, object], None]) -> None:
    """What the server says goes into the report; then the matrix."""
    told = client.get(url, FACTS_PATH).raise_for_status().json()
    for name, value in {"hardware": hardware(), **told}.items():
        record(name, json.dumps(value))
    certificate, facts = told["certificate"], told["facts"]
    assert facts.items() >= {"attention": backend, **SHAPE}.items()
    assert certificate["widths"][-1] == SHAPE["group"]
    assert {*certificate["replayed"]} <= {*certificate["widths"]}
    assert certificate["passes"] > 0 and certificate["rows"] > 0
    matrix.run(url, perturbed=True)


def test_certified_and_deterministic(server, backend, model, record_property):
    flags = ("--attention-backend", backend, *VERIFIED)
    with server(*model, *flags, fault=DECODE) as running:
        require_deterministic(running.url, backend, record_property)


def test_negative_control_a_broken_pass_is_refused(server, backend, model):
    """A slot's index shows in its logits: certification must see it on this backend."""
    broken = server(*model, "--attention-backend", backend, fault={"LLM42_FAULT": "a2"})
    with pytest.raises(ServerError, match="assumption A2"):
        broken.start()


def test_a_mixture_of_experts(server, tmp_path, record_property):
    """Triton's experts, and its attention."""
    model = ("--model-path", str(tiny_models.make("qwen3_moe", tmp_path)))
    with server(*model, "--attention-backend", "triton", *VERIFIED, fault=DECODE) as running:
        require_deterministic(running.url, "triton", record_property)
