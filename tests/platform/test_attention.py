"""`llm42_cpu` against torch's own attention: to a tolerance; rows and slots: bit for bit.

A tolerance is right only against the reference: another order of the same sums.
"""

from types import SimpleNamespace

import pytest
import torch
from sglang.srt.layers.radix_attention import AttentionType
from sglang.srt.model_executor.forward_batch_info import ForwardMode

from llm42_sglang.platform.attention import CpuAttnBackend

HEADS, KV_HEADS, DIM = 6, 2, 16
TOLERANCE = 2e-2  # bf16 keeps 8 bits


class Pool:
    """A KV pool of one layer, filled with NaN where nothing was written."""

    def __init__(self):
        self.buffers = [torch.full((512, KV_HEADS, DIM), float("nan")).bfloat16() for _ in range(2)]

    def set_kv_buffer(self, layer, where, k, v):
        for buffer, rows in zip(self.buffers, (k, v), strict=True):
            buffer[where.loc] = rows.view(-1, KV_HEADS, DIM)

    def get_key_buffer(self, layer_id):
        return self.buffers[0]

    def get_value_buffer(self, layer_id):
        return self.buffers[1]


LAYER = SimpleNamespace(
    layer_id=0,
    tp_q_head_num=HEADS,
    tp_k_head_num=KV_HEADS,
    qk_head_dim=DIM,
    v_head_dim=DIM,
    scaling=DIM**-0.5,
    sliding_window_size=-1,
    is_cross_attention=False,
    attn_type=AttentionType.DECODER,
)


def backend() -> CpuAttnBackend:
    """One request row per 32 KV slots, in descending order of slots."""
    rows = torch.arange(511, -1, -1, dtype=torch.int32).view(8, 64)
    pools = {"req_to_token_pool": SimpleNamespace(req_to_token=rows), "token_to_kv_pool": Pool()}
    return CpuAttnBackend(SimpleNamespace(device="cpu", **pools))


def extend(attention, parts, q, k, v):
    """parts: (row, prefix length, new rows)."""
    table = attention.req_to_token_pool.req_to_token
    batch = SimpleNamespace(
        forward_mode=ForwardMode.EXTEND,
        req_pool_indices=torch.tensor([row for row, _, _ in parts]),
        extend_prefix_lens=torch.tensor([prefix for _, prefix, _ in parts]),
        extend_seq_lens=torch.tensor([new for _, _, new in parts]),
        out_cache_loc=torch.cat([table[r, p : p + n] for r, p, n in parts]).long(),
    )
    attention.init_forward_metadata(batch)
    return attention.forward_extend(q, k, v, LAYER, batch)


def decode(attention, rows, lengths, q, k, v):
    table = attention.req_to_token_pool.req_to_token
    batch = SimpleNamespace(
        forward_mode=ForwardMode.DECODE,
        req_pool_indices=torch.tensor(rows),
        seq_lens=torch.tensor(lengths),
        out_cache_loc=torch.stack(
            [table[r, n - 1] for r, n in zip(rows, lengths, strict=True)]
        ).long(),
    )
    attention.init_forward_metadata(batch)
    return attention.forward_decode(q, k, v, LAYER, batch)


def random(rows: int, heads: int) -> torch.Tensor:
    return torch.randn(rows, heads * DIM).bfloat16()


def reference(q, k, v) -> torch.Tensor:
    """Causal attention of the last rows over all, in fp32."""
    rows, context = len(q), len(k)
    q = q.view(rows, HEADS, DIM).float()
    k, v = (
        x.view(context, KV_HEADS, DIM).float().repeat_interleave(HEADS // KV_HEADS, 1)
        for x in (k, v)
    )
    scores = torch.einsum("qhd,khd->hqk", q, k) * LAYER.scaling
    seen = torch.ones(rows, context, dtype=torch.bool).tril(context - rows)
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, v).flatten(1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(5)


@pytest.mark.parametrize("prefix", [0, 16, 48])
def test_extend_is_attention(prefix):
    q, k, v = random(64, HEADS), random(64, KV_HEADS), random(64, KV_HEADS)
    attention = backend()
    if prefix:
        extend(attention, [(1, 0, prefix)], q[:prefix], k[:prefix], v[:prefix])
    new = slice(prefix, prefix + 16)
    got = extend(attention, [(1, prefix, 16)], q[new], k[new], v[new])
    expected = reference(q[new], k[: prefix + 16], v[: prefix + 16])
    torch.testing.assert_close(got.float(), expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_decode_is_attention_for_every_length_of_a_batch():
    lengths = [3, 17, 1, 40, 33]
    q, k, v = random(40, HEADS), random(40, KV_HEADS), random(40, KV_HEADS)
    attention = backend()
    for row, n in enumerate(lengths):
        if n > 1:
            extend(attention, [(row, 0, n - 1)], q[: n - 1], k[: n - 1], v[: n - 1])
    last = torch.tensor([n - 1 for n in lengths])
    got = decode(attention, list(range(5)), lengths, q[last], k[last], v[last])
    for row, n in enumerate(lengths):
        expected = reference(q[n - 1 : n], k[:n], v[:n])
        torch.testing.assert_close(got[row : row + 1].float(), expected, atol=TOLERANCE, rtol=0)


def test_a_slot_does_not_see_its_neighbours():
    """A2, bit for bit: alone, and between two others."""
    q, k, v = random(48, HEADS), random(48, KV_HEADS), random(48, KV_HEADS)
    middle = slice(16, 32)
    alone = extend(backend(), [(2, 0, 16)], q[middle], k[middle], v[middle])
    between = extend(backend(), [(5, 0, 16), (3, 0, 16), (7, 0, 16)], q, k, v)[middle]
    assert torch.equal(alone, between)


def test_a_row_does_not_see_later_rows():
    """A3, bit for bit; a later row's own KV may even be NaN-free garbage."""
    q, k, v = random(16, HEADS), random(16, KV_HEADS), random(16, KV_HEADS)
    before = extend(backend(), [(2, 0, 16)], q, k, v)[:9]
    for x in (q, k, v):
        x[9:] = 7.0
    assert torch.equal(before, extend(backend(), [(2, 0, 16)], q, k, v)[:9])
