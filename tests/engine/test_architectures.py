"""Other models than Llama, tiny ones of random weights: certified, and the determinism matrix.

A mixture of experts goes through the matrix in `test_parallel`, with two ranks and two replicas.
"""

import pytest

from tests.engine import matrix

pytestmark = pytest.mark.server


def test_windows_of_attention_in_one_kv_pool(servers, tiny):
    url = servers.url(tiny("gemma3", "--disable-hybrid-swa-memory", LLM42_FAULT="decode"))
    assert "llm42: certified" in servers.process.log_path.read_text()
    matrix.run(url)
