"""FlashAttention: one split in a canonical pass, against SGLang's sources.

Its module cannot be imported without a GPU (`sgl_kernel` loads compiled code), so it is read.
Checked by hand: dropping `num_splits` from the mode fails the first test, dropping it from the
calls in a copy of SGLang's backend fails the second.
"""

import ast
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from llm42_sglang.cli.upstream.sources import Read, installed
from llm42_sglang.cli.upstream.symbols import Finder
from llm42_sglang.engine.passes.backends import BACKENDS

BACKEND = "sglang/srt/layers/attention/flashattention_backend.py"
KERNELS = {"flash_attn_with_kvcache", "flash_attn_varlen_func"}


@pytest.fixture(scope="module")
def sglang() -> Read:
    return installed()


@pytest.mark.parametrize("name", ["fa3", "fa4"])
def test_a_pass_has_one_split_and_decode_keeps_its_own(name):
    backend = SimpleNamespace(num_splits=0, decode_num_splits=4)
    with BACKENDS[name].mode_of(backend)():
        assert vars(backend) == {"num_splits": 1, "decode_num_splits": 4}


def extend_calls(sglang: Read) -> list[ast.Call]:
    """Kernel calls of an extend over the paged cache that is no latent attention."""
    nodes = list(ast.walk(ast.parse(sglang(BACKEND))))
    (backend,) = (n for n in nodes if getattr(n, "name", "") == "FlashAttentionBackend")
    (extend,) = (n for n in backend.body if getattr(n, "name", "") == "forward_extend")
    return [
        node
        for node in ast.walk(extend)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in KERNELS
        and {"page_table", "v_cache"} & {keyword.arg for keyword in node.keywords}
    ]


def test_every_paged_extend_reads_the_attribute_that_the_mode_sets(sglang):
    calls = extend_calls(sglang)
    assert len(calls) >= 2
    for call in calls:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given["num_splits"] == "self.num_splits", f"line {call.lineno}"


OPS = "sglang.kernels.ops.attention."


@pytest.mark.parametrize(
    "module",
    [
        "sgl_kernel.flash_attn",
        *(f"{OPS}flash_attention{version}" for version in ("", "_v3", "_v4")),
    ],
)
def test_the_kernels_take_a_number_of_splits(sglang, module):
    if module.startswith("sgl_kernel"):  # not in sglang's wheel, and found without an import
        (folder,) = find_spec("sgl_kernel").submodule_search_locations
        source = (Path(folder) / "flash_attn.py").read_bytes()
        sglang = {"sgl_kernel/flash_attn.py": source}.get
    kernel = Finder(sglang).find(f"{module}.flash_attn_with_kvcache")
    assert "num_splits" in " ".join(kernel.signature)
