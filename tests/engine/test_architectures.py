"""Other models than Llama, tiny ones of random weights: certified, and the determinism matrix."""

import pytest

from llm42_sglang.cli.launch import ServerError, ServerProcess
from tests.engine import matrix

pytestmark = pytest.mark.server

# In fp32 no last bit of a GEMM is rounded away; in bf16 experts of this size would hide theirs.
FP32 = ("--dtype", "float32")
FLAGS = {
    "qwen3_moe": FP32,
    "gemma3": ("--disable-hybrid-swa-memory",),  # windows of attention in one KV pool
}


@pytest.mark.parametrize("architecture", FLAGS)
def test_the_matrix(servers, tiny, architecture):
    url = servers.url(tiny(architecture, *FLAGS[architecture], LLM42_FAULT="decode"))
    assert "llm42: certified" in servers.process.log_path.read_text()
    matrix.run(url)


def test_experts_in_sglangs_shapes_are_not_certified(servers, tiny, tmp_path):
    """Negative control: an expert's GEMM has as many rows as the neighbours send it."""
    servers.stop()
    configuration = tiny("qwen3_moe", *FP32, LLM42_FAULT="experts")
    log_path = tmp_path / "server.log"
    server = ServerProcess(configuration.args, log_path=log_path, env=dict(configuration.env))
    with pytest.raises(ServerError, match="assumption A2"), server:
        pass
