"""Other models than Llama, tiny ones of random weights: certified, and the determinism matrix."""

import pytest

from tests.engine import matrix

pytestmark = pytest.mark.server

FLAGS = {
    "qwen3": (),
    "qwen3_moe": (),
    "gemma3": ("--disable-hybrid-swa-memory",),  # windows of attention in one KV pool
}


@pytest.mark.parametrize("architecture", FLAGS)
def test_the_matrix(servers, tiny, architecture):
    url = servers.url(tiny(architecture, *FLAGS[architecture], LLM42_FAULT="decode"))
    assert "llm42: certified" in servers.process.log_path.read_text()
    matrix.run(url)
