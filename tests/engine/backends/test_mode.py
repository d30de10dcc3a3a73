"""Whatever a mode changes is restored, and what has no canonical mode is refused by name.

Checked by hand: without `finally` in `attributes`, and with the decode backend of a hybrid one
switched instead, tests here fail.
"""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from sglang.srt.layers.attention.hybrid_attn_backend import HybridAttnBackend

from llm42_sglang.engine.errors import UnsupportedError
from llm42_sglang.engine.passes import backends
from llm42_sglang.engine.passes.backends.mode import attributes

REFERENCE = Path(__file__).parents[3] / "docs" / "reference.md"


def runner(name: str, backend: object = None, **more) -> SimpleNamespace:
    given = {"prefill_attention_backend_str": name, "attn_backend": backend}
    return SimpleNamespace(**given, **{"use_mla_backend": False, **more})


def test_attributes_are_set_inside_and_restored_after_even_after_an_exception():
    target = SimpleNamespace(splits=0, paged=False, other=[])
    for error in (nullcontext(), pytest.raises(RuntimeError, match="out of memory")):
        with error as raised, attributes(target, splits=1, paged=True):
            assert (target.splits, target.paged) == (1, True)
            if raised is not None:
                raise RuntimeError("out of memory")
        assert vars(target) == {"splits": 0, "paged": False, "other": []}


def test_an_attribute_that_the_backend_does_not_have_is_an_error_and_changes_nothing():
    target = SimpleNamespace(splits=0)
    with pytest.raises(AttributeError), attributes(target, splits=1, gone=2):
        pass
    assert vars(target) == {"splits": 0}


@pytest.mark.parametrize("name", ["flex_attention", "trtllm_mha", "aiter", "made_up", None])
def test_an_unknown_backend_is_refused_by_name(name):
    with pytest.raises(UnsupportedError, match=f"--attention-backend {name} .*flashinfer, fa3"):
        backends.canonical_mode(runner(name))


@pytest.mark.parametrize("name", ["triton", "torch_native", "llm42_cpu"])
def test_where_the_kernels_are_canonical_the_backend_is_left_alone(name):
    backend = SimpleNamespace()
    assert backends.BACKENDS[name].mode_of(backend) is nullcontext
    with backends.canonical_mode(runner(name, backend))():
        assert vars(backend) == {}


def test_multi_head_latent_attention_is_refused():
    with pytest.raises(UnsupportedError, match="multi-head latent attention"):
        backends.canonical_mode(runner("fa3", use_mla_backend=True))


def test_of_a_hybrid_backend_the_prefill_one_is_switched():
    hybrid = object.__new__(HybridAttnBackend)
    hybrid.prefill_backend = SimpleNamespace(num_splits=0)
    hybrid.decode_backend = SimpleNamespace(num_splits=0)
    with backends.canonical_mode(runner("fa3", hybrid))():
        assert hybrid.prefill_backend.num_splits == 1
        assert hybrid.decode_backend.num_splits == 0


def test_the_reference_shows_every_backend():
    assert backends.table() in REFERENCE.read_text(), "put in what `backends.table` gives"
