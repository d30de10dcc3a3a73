"""Other models than Llama, tiny ones of random weights: certified, and the determinism matrix.

A mixture of experts goes through the matrix in `test_parallel`, with two ranks and two replicas.
"""

import pytest

from llm42_sglang.cli.launch import ServerError, ServerProcess
from tests.engine import matrix
from tests.engine.tiny_models import FP32

pytestmark = pytest.mark.server


def test_windows_of_attention_in_one_kv_pool(servers, tiny):
    url = servers.url(tiny("gemma3", "--disable-hybrid-swa-memory", LLM42_FAULT="decode"))
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
