"""`llm42_cpu` computes attention: its results are those of fp64, to a tolerance.

The same sums in another order agree to a tolerance only. No other test has one; bits are compared
in test_attention_bits.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend
from sglang.srt.layers.radix_attention import AttentionType
from sglang.srt.mem_cache.memory_pool import KVWriteLoc
from sglang.srt.model_executor.forward_batch_info import ForwardMode

from llm42_sglang.platform.attention import CpuAttnBackend
from tests.platform.attention_rig import Rig, Shape, Tokens, random_tokens, reference

TOLERANCE = {torch.bfloat16: 2e-2, torch.float32: 1e-5}  # bf16 keeps 8 bits; values are about 1

shapes = st.builds(
    lambda kv_heads, shared, **more: Shape(kv_heads * shared, kv_heads, **more),
    kv_heads=st.integers(1, 3),
    shared=st.sampled_from([1, 2, 3, 4, 5, 7]),
    dim=st.sampled_from([8, 16, 64]),
    dtype=st.sampled_from(list(TOLERANCE)),
    window=st.sampled_from([-1, -1, 1, 5, 16, 31, 100]),
    page=st.sampled_from([1, 16, 32, 64]),
    cap=st.sampled_from([0.0, 0.0, 2.0]),
    sinks=st.sampled_from([False, False, True]),
)
SIZES = st.tuples(st.integers(1, 90), st.integers(1, 90))  # prefix, new rows
SEEDS = st.integers(0, 1 << 30)


def close(shape, got, expected):
    tolerance = TOLERANCE[shape.dtype]
    torch.testing.assert_close(got.double(), expected, atol=tolerance, rtol=tolerance)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(shapes, st.lists(SIZES, min_size=1, max_size=4), SEEDS)
def test_extend_and_decode(shape, sizes, seed):
    """All requests in one batch, after their prefixes in another; then a step of each."""
    tokens = [random_tokens(shape, p + n + 1, seed + i) for i, (p, n) in enumerate(sizes)]
    pairs = list(zip(tokens, sizes, strict=True))
    prefixes = Tokens.join([t[:p] for t, (p, _) in pairs])
    new = Tokens.join([t[p:-1] for t, (p, _) in pairs])
    last = Tokens.join([t[-1:] for t in tokens])
    rig = Rig(shape, seed=seed)
    rig.extend([(row, 0, p) for row, (p, _) in enumerate(sizes)], prefixes)
    extended = rig.extend([(row, p, n) for row, (p, n) in enumerate(sizes)], new)
    decoded = rig.decode(range(len(sizes)), [p + n + 1 for p, n in sizes], last)
    expected = [reference(shape, t)[p:] for t, (p, _) in pairs]
    close(shape, extended, torch.cat([rows[:-1] for rows in expected]))
    close(shape, decoded, torch.cat([rows[-1:] for rows in expected]))


@pytest.mark.parametrize("wrong", [-1, +1])
def test_a_window_off_by_one_is_seen(wrong):
    """Negative control of the tolerance: fp64 with another window is not close."""
    shape, other = (Shape(dtype=torch.float32, window=w) for w in (16, 16 + wrong))
    tokens = random_tokens(shape, 64, seed=1)
    got = Rig(shape).extend([(0, 0, 64)], tokens)
    close(shape, got, reference(shape, tokens))
    with pytest.raises(AssertionError):
        close(shape, got, reference(other, tokens))


@pytest.mark.parametrize("more", [{"cap": 2.0}, {"sinks": True}])
def test_what_only_some_models_have_is_seen(more):
    """Negative control of the same: a cap, sinks."""
    shape, none = Shape(dtype=torch.float32, **more), Shape(dtype=torch.float32)
    tokens = random_tokens(shape, 64, seed=1)
    got = Rig(shape).extend([(0, 0, 64)], tokens)
    close(shape, got, reference(shape, tokens))
    with pytest.raises(AssertionError):
        close(shape, got, reference(none, tokens))


def test_a_window_reads_no_more_than_it_shows():
    """KV that has left the window may have been evicted: whatever lies there now is not read."""
    shape = Shape(window=40, page=16)
    tokens = random_tokens(shape, 192, seed=2)
    rig = Rig(shape)
    rig.extend([(0, 0, 160)], tokens[:160])
    for buffer in rig.backend.token_to_kv_pool.buffers:
        buffer[rig.table[0, : 160 - 40].long()] = float("nan")
    got = rig.extend([(0, 160, 32)], tokens[160:])
    close(shape, got, reference(shape, tokens)[160:])
    close(shape, rig.decode([0], [192], tokens[-1:]), reference(shape, tokens)[-1:])


def test_windowed_layers_are_read_from_the_pool_that_holds_them():
    """A pool of its own for windowed layers numbers its slots anew."""
    shape = Shape(window=20)
    tokens = random_tokens(shape, 64, seed=3)
    rig = Rig(shape)
    pool = rig.backend.token_to_kv_pool
    moved = torch.randperm(len(pool.buffers[0]))
    pool.layers_mapping = {0: (0, True)}
    pool.translate_loc_from_full_to_swa = moved.__getitem__
    rig.backend.use_sliding_window_kv_pool = True
    write = pool.set_kv_buffer
    pool.set_kv_buffer = lambda _, at, k, v: write(_, KVWriteLoc(at.swa_loc, None), k, v)
    got = rig.extend([(2, 0, 64)], tokens)
    close(shape, got, reference(shape, tokens))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("logit_capping_method", "grok"),
        ("xai_temperature_len", 1024),
        ("use_irope", True),
        ("pos_encoding_mode", "ALIBI"),
        ("attn_type", AttentionType.DECODER_BIDIRECTIONAL),
    ],
)
def test_what_torch_native_leaves_out_is_refused(field, value):
    """A field of the layer that would change the numbers is refused: torch_native ignores it. So is
    an argument that is not known, and a speculative verification, whose mask is a tree's."""
    rig, tokens = Rig(Shape()), random_tokens(Shape(), 32, seed=4)
    rig.extend([(0, 0, 32)], tokens, sinks=None, return_lse=False)  # absent extras are not
    with pytest.raises(NotImplementedError, match="score_mod"):
        rig.extend([(0, 0, 32)], tokens, score_mod=torch.zeros(6))
    with pytest.raises(NotImplementedError, match="forward_mode"):
        rig.extend([(0, 0, 32)], tokens, ForwardMode.TARGET_VERIFY)
    setattr(rig.layer, field, value)
    with pytest.raises(NotImplementedError, match=field):
        rig.extend([(0, 0, 32)], tokens)
    with pytest.raises(NotImplementedError, match=field):
        rig.decode([0], [32], tokens[31:])


def test_encoder_attention_is_torch_natives():
    outputs = []
    for backend in (CpuAttnBackend, TorchNativeAttnBackend):
        rig, tokens = Rig(Shape(), backend=backend), random_tokens(Shape(), 32, seed=7)
        rig.layer.attn_type = AttentionType.ENCODER_ONLY
        outputs.append(rig.extend([(0, 0, 32)], tokens))
        if backend is CpuAttnBackend:
            with pytest.raises(NotImplementedError, match="sinks"):
                rig.extend([(0, 0, 32)], tokens, sinks=torch.zeros(6))
    assert torch.equal(*outputs)
    causal = Rig(Shape()).extend([(0, 0, 32)], tokens)
    assert not torch.equal(outputs[0], causal)
