"""`llm42_cpu`: attention for plain CPUs in O(new rows * context).

SGLang's torch_native backend pads the queries of an extend to the whole sequence, O(L * L), and
decodes request by request in every layer. Here an extend attends with its new rows only, slot by
slot, so a slot's kernel never sees its neighbours; decode rows of similar context attend together,
padded to the sizes at which torch's kernel adds up a decode row as it adds up the same row of an
extend. Nothing relies on that; it spares deterministic requests most of their rollbacks.
Layers that need more (sliding window, cross or encoder attention) fall back to torch_native.
"""

from dataclasses import dataclass

import torch
from sglang.srt.layers.attention.attention_registry import register_attention_backend
from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend
from sglang.srt.layers.radix_attention import AttentionType, RadixAttention
from sglang.srt.mem_cache.memory_pool import KVWriteLoc
from sglang.srt.model_executor.forward_batch_info import ForwardBatch
from torch.nn.functional import pad, scaled_dot_product_attention

NAME = "llm42_cpu"
# Measured with torch 2.14 on AVX2: from these sizes on, a row's bits do not depend on the size.
QUERY_ROWS = 4  # heads that share a KV head, at least
CONTEXT_STEP = 32  # tokens


@dataclass(frozen=True, slots=True)
class _Part:
    """One request's share of an extend: its query rows, its keys, and who may see whom."""

    rows: slice  # of the batch's token rows
    locations: torch.Tensor  # [context] KV slots
    mask: torch.Tensor  # [rows, context], True where a row may attend


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Decode rows whose contexts are of one power of two, padded to the longest of them."""

    rows: torch.Tensor  # [n] of the batch
    locations: torch.Tensor  # [n * context] KV slots
    mask: torch.Tensor  # [n, 1, 1, context]


class CpuAttnBackend(TorchNativeAttnBackend):
    """Plans once per forward, then attends layer by layer."""

    def init_forward_metadata(self, forward_batch: ForwardBatch) -> None:
        """Look KV slots up and build masks, once for all layers."""
        super().init_forward_metadata(forward_batch)
        self.extend_plan: list[_Part] = []
        self.decode_plan: list[_Bucket] = []
        if forward_batch.forward_mode.is_decode():
            self.decode_plan = self._plan_decode(forward_batch)
        elif forward_batch.forward_mode.is_extend():
            self.extend_plan = self._plan_extend(forward_batch)

    def forward_extend(
        self, q, k, v, layer: RadixAttention, forward_batch: ForwardBatch, save_kv_cache=True
    ) -> torch.Tensor:
        """q: [rows, heads * dim]; every row's KV is written before any row attends."""
        if not _is_plain(layer):
            return super().forward_extend(q, k, v, layer, forward_batch, save_kv_cache)
        self._save(k, v, layer, forward_batch, save_kv_cache)
        keys, values = self._buffers(layer)
        queries = q.view(-1, layer.tp_q_head_num, layer.qk_head_dim)
        output = q.new_empty(len(queries), layer.tp_q_head_num, layer.v_head_dim)
        for part in self.extend_plan:
            output[part.rows] = scaled_dot_product_attention(
                queries[part.rows].transpose(0, 1).unsqueeze(0),
                keys.index_select(0, part.locations).transpose(0, 1).unsqueeze(0).to(q.dtype),
                values.index_select(0, part.locations).transpose(0, 1).unsqueeze(0).to(q.dtype),
                attn_mask=part.mask,
                scale=layer.scaling,
                enable_gqa=layer.tp_q_head_num != layer.tp_k_head_num,
            )[0].transpose(0, 1)
        return output.flatten(1)

    def forward_decode(
        self, q, k, v, layer: RadixAttention, forward_batch: ForwardBatch, save_kv_cache=True
    ) -> torch.Tensor:
        """q: [batch, heads * dim]; the query heads of a KV head ride as rows of one attention."""
        if not _is_plain(layer):
            return super().forward_decode(q, k, v, layer, forward_batch, save_kv_cache)
        self._save(k, v, layer, forward_batch, save_kv_cache)
        kv_heads, buffers = layer.tp_k_head_num, self._buffers(layer)
        shared = layer.tp_q_head_num // kv_heads  # query heads of a KV head
        queries = q.reshape(len(q), kv_heads, shared, layer.qk_head_dim)
        if shared < QUERY_ROWS:
            queries = pad(queries, (0, 0, 0, QUERY_ROWS - shared))
        output = q.new_empty(len(q), layer.tp_q_head_num * layer.v_head_dim)
        for bucket in self.decode_plan:
            size, context = bucket.mask.shape[0], bucket.mask.shape[-1]
            keys, values = (
                buffer.index_select(0, bucket.locations)
                .view(size, context, kv_heads, -1)
                .transpose(1, 2)
                .to(q.dtype)
                for buffer in buffers
            )
            attended = scaled_dot_product_attention(
                queries[bucket.rows], keys, values, attn_mask=bucket.mask, scale=layer.scaling
            )
            output[bucket.rows] = attended[:, :, :shared].reshape(size, -1)
        return output

    def _plan_extend(self, batch: ForwardBatch) -> list[_Part]:
        parts, first_row = [], 0
        sizes = zip(
            batch.req_pool_indices.tolist(),
            batch.extend_prefix_lens.tolist(),
            batch.extend_seq_lens.tolist(),
            strict=True,
        )
        for row, prefix_len, new_rows in sizes:
            context = prefix_len + new_rows
            parts.append(
                _Part(
                    slice(first_row, first_row + new_rows),
                    self.req_to_token_pool.req_to_token[row, :context].long(),
                    torch.ones(new_rows, context, dtype=torch.bool).tril(prefix_len),
                )
            )
            first_row += new_rows
        return parts

    def _plan_decode(self, batch: ForwardBatch) -> list[_Bucket]:
        rows_by_size: dict[int, list[int]] = {}
        for i, length in enumerate(batch.seq_lens.tolist()):
            rows_by_size.setdefault(length.bit_length(), []).append(i)
        return [self._bucket(batch, torch.tensor(rows)) for rows in rows_by_size.values()]

    def _bucket(self, batch: ForwardBatch, rows: torch.Tensor) -> _Bucket:
        lengths = batch.seq_lens[rows]
        context = -(-int(lengths.max()) // CONTEXT_STEP) * CONTEXT_STEP
        mask = torch.arange(context) < lengths.unsqueeze(1)  # [n, context]
        requests = batch.req_pool_indices[rows]
        rows_of = self.req_to_token_pool.req_to_token
        columns = torch.arange(context).clamp_(max=rows_of.shape[1] - 1)
        locations = rows_of[requests.unsqueeze(1), columns].long()
        # Past a request's end: some slot of its own, for what lies in stale ones may be NaN.
        locations = torch.where(mask, locations, locations[:, :1])
        return _Bucket(rows, locations.flatten(), mask[:, None, None, :])

    def _buffers(self, layer: RadixAttention) -> tuple[torch.Tensor, torch.Tensor]:
        pool = self.token_to_kv_pool
        return pool.get_key_buffer(layer.layer_id), pool.get_value_buffer(layer.layer_id)

    def _save(self, k, v, layer, forward_batch: ForwardBatch, save_kv_cache: bool) -> None:
        if save_kv_cache and k is not None and v is not None:
            where = KVWriteLoc(forward_batch.out_cache_loc, self.swa_out_cache_loc)
            self.token_to_kv_pool.set_kv_buffer(layer, where, k, v)


def _is_plain(layer: RadixAttention) -> bool:
    """Causal self-attention over the whole context."""
    window = layer.sliding_window_size
    return (
        not layer.is_cross_attention
        and layer.attn_type != AttentionType.ENCODER_ONLY
        and (window is None or window < 0)
    )


def register() -> None:
    """Make the backend known to SGLang, in this process."""
    register_attention_backend(NAME)(CpuAttnBackend)
