"""Every attention backend that the GPU runs: certified, deterministic, and refused when broken.

What a server has certified goes into the report (`record_property`). Not yet run on a GPU; by hand
on a CPU, with torch_native in place of BACKENDS.
"""

import json
from dataclasses import replace

import pytest

from llm42_sglang.cli.hardware import hardware
from llm42_sglang.cli.launch import ServerError, ServerProcess, local_client
from llm42_sglang.frontend.facts import FACTS_PATH
from tests.engine import matrix
from tests.engine.conftest import Server

pytestmark = [pytest.mark.gpu, pytest.mark.server]

# Lowest and highest major compute capability; SGLang's create_flashattention_v3_backend has FA3's.
BACKENDS = {"flashinfer": (8, 12), "fa3": (8, 9), "fa4": (9, 12), "triton": (8, 12)}
GROUP = 8
SIZE = ("--max-total-tokens", "20000", "--chunked-prefill-size", "256", "--llm42-group", str(GROUP))
START_S = 1800  # weights, kernels that are compiled, graphs
# Every 7th decode step proposes wrong tokens: the matrix's negative control.
PERTURBED = (("LLM42_FAULT", "decode"),)


@pytest.fixture(params=BACKENDS)
def backend(request, gpu) -> str:
    """One that this GPU can run."""
    major = gpu.capability[0]
    low, high = BACKENDS[request.param]
    if not low <= major <= high:
        pytest.skip(f"{request.param} does not run on {gpu.name}, of compute capability {major}")
    return request.param


@pytest.fixture
def server(backend, model) -> Server:
    """It, with perturbed decode steps."""
    return Server((*model, *SIZE, "--attention-backend", backend), PERTURBED)


@pytest.fixture
def report(record_property):
    """Writes the machine, and what a server says of itself, into the report."""
    record_property("hardware", json.dumps(hardware()))

    def certified(url: str, **facts) -> None:
        with local_client(url, 60) as http:
            told = http.get(FACTS_PATH).raise_for_status().json()
        for name in ("fingerprint", "facts", "certificate"):
            record_property(name, json.dumps(told[name]))
        assert facts.items() <= told["facts"].items()
        certificate = told["certificate"]
        assert certificate["widths"][-1] == told["facts"]["group"]
        assert {*certificate["replayed"]} <= {*certificate["widths"]}
        assert certificate["passes"] > 0 and certificate["rows"] > 0

    return certified


def test_certified_and_deterministic(servers, server, backend, report):
    url = servers.url(server)
    report(url, attention=backend, group=GROUP)
    matrix.run(url)


def test_negative_control_a_broken_pass_is_refused(servers, server, tmp_path):
    """A slot's index shows in its logits: certification must see it on this backend."""
    servers.stop()
    broken = replace(server, env=(("LLM42_FAULT", "a2"),))
    process = ServerProcess(
        broken.args, log_path=tmp_path / "server.log", env=dict(broken.env), deadline_s=START_S
    )
    with pytest.raises(ServerError, match="assumption A2"):
        process.start()


def test_a_mixture_of_experts(gpu, servers, tiny, report):
    """Triton's experts, and its attention."""
    url = servers.url(tiny("qwen3_moe", "--attention-backend", "triton", **dict(PERTURBED)))
    report(url, attention="triton")
    matrix.run(url)
