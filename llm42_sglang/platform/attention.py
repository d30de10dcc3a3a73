"""`llm42_cpu`: attention for plain CPUs in O(new rows * context).

SGLang's torch_native backend pads the queries of an extend to the whole sequence, O(L * L), and
decodes request by request in every layer. Here an extend attends with its new rows only. Contexts
are padded to few sizes, and slots of one size attend together: torch's kernel works on each
(request, head) alone. So the pages of a prompt take a few calls, not one each. A decode row is
planned as a slot of one row: what its context is padded to is its own affair, whoever is beside it,
and the same as for its page in an extend. So the kernel adds it up as it adds up the same row of an
extend. Certification finds out whether that holds; if not, deterministic requests are verified.
Cross and encoder attention fall back to torch_native; what neither computes is refused.
"""

from collections import defaultdict
from dataclasses import dataclass

import torch
from sglang.srt.layers.attention.attention_registry import register_attention_backend
from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend
from sglang.srt.layers.radix_attention import AttentionType, RadixAttention
from sglang.srt.mem_cache.memory_pool import KVWriteLoc
from sglang.srt.model_executor.forward_batch_info import ForwardBatch, ForwardMode
from torch.nn.functional import pad, scaled_dot_product_attention

NAME = "llm42_cpu"
# Measured with torch 2.14 on AMD, AVX2 (AVX-512 agrees), in fp32, where no rounding hides a
# difference. The kernel walks the context in blocks of KV_BLOCK; what is left goes to one GEMM that
# sums up to 192 columns at once, from 384 on 192 and the rest, and between the two in halves: a
# row's bits do not depend on the size but there. Nor do they on the number of query rows, from
# QUERY_ROWS on.
QUERY_ROWS = 4  # heads that share a KV head, at least
KV_BLOCK = 512  # tokens
SIZES = (64, 192, 384, KV_BLOCK)  # tokens in the last block
UNBOUNDED = 1 << 40  # tokens: a window that hides nothing


def context_size(tokens: int) -> int:
    """Columns that a context of so many tokens is padded to."""
    whole, rest = divmod(tokens - 1, KV_BLOCK)  # rest: columns before the last one, in its block
    return whole * KV_BLOCK + next(size for size in SIZES if size > rest)


@dataclass(frozen=True, slots=True)
class _Group:
    """Requests that attend in one call; n of them."""

    rows: torch.Tensor  # [n * new rows] of the batch's token rows
    locations: torch.Tensor  # [n * context] KV slots
    mask: torch.Tensor  # broadcasts to [n, heads, new rows, context]: True where a row may attend
    size: int  # n
    new_rows: int  # of each


class CpuAttnBackend(TorchNativeAttnBackend):
    """Plans once per forward and kind of layer, then attends layer by layer."""

    def init_forward_metadata(self, forward_batch: ForwardBatch) -> None:
        """Forget the plans of the last forward."""
        super().init_forward_metadata(forward_batch)
        self.plans: dict[tuple[int, bool], list[_Group]] = {}  # by window, in the SWA pool or not

    def forward_extend(
        self,
        q,
        k,
        v,
        layer: RadixAttention,
        forward_batch: ForwardBatch,
        save_kv_cache=True,
        **extra,
    ) -> torch.Tensor:
        """q: [rows, heads * dim]; every row's KV is written before any row attends. Requests of one
        new row attend as in a decode.

        Raises NotImplementedError for what this backend cannot compute.
        """
        _refuse_unknown(layer, forward_batch, extra)
        if not _is_causal(layer, forward_batch):
            return super().forward_extend(q, k, v, layer, forward_batch, save_kv_cache)
        return self._attend_all(q, k, v, layer, forward_batch, save_kv_cache)

    def forward_decode(
        self,
        q,
        k,
        v,
        layer: RadixAttention,
        forward_batch: ForwardBatch,
        save_kv_cache=True,
        **extra,
    ) -> torch.Tensor:
        """q: [batch, heads * dim].

        Raises NotImplementedError for what this backend cannot compute.
        """
        _refuse_unknown(layer, forward_batch, extra)
        if not _is_causal(layer, forward_batch):
            return super().forward_decode(q, k, v, layer, forward_batch, save_kv_cache)
        return self._attend_all(q, k, v, layer, forward_batch, save_kv_cache)

    def _attend_all(self, q, k, v, layer, forward_batch: ForwardBatch, save_kv_cache: bool):
        """[rows, heads * the values' dim], after their KV is written."""
        self._save(k, v, layer, forward_batch, save_kv_cache)
        output = q.new_empty(len(q), layer.tp_q_head_num * layer.v_head_dim)
        for group in self._plan(layer, forward_batch):
            attend = self._attend_one_row_each if group.new_rows == 1 else self._attend_pages
            output.index_copy_(0, group.rows, attend(q.index_select(0, group.rows), group, layer))
        return output

    def _attend_pages(self, q: torch.Tensor, group: _Group, layer: RadixAttention) -> torch.Tensor:
        """q: [n * new rows, heads * dim]; returns the same with the values' dim."""
        queries = q.view(group.size, group.new_rows, layer.tp_q_head_num, layer.qk_head_dim)
        attended = self._attend(queries.transpose(1, 2), group, layer)  # [n, heads, new rows, dim]
        return attended.transpose(1, 2).reshape(len(q), -1)

    def _attend_one_row_each(
        self, q: torch.Tensor, group: _Group, layer: RadixAttention
    ) -> torch.Tensor:
        """q: [n, heads * dim]; the query heads of a KV head are the rows of one attention."""
        shared = layer.tp_q_head_num // layer.tp_k_head_num  # query heads of a KV head
        queries = q.view(len(q), layer.tp_k_head_num, shared, layer.qk_head_dim)
        if shared < QUERY_ROWS:
            queries = pad(queries, (0, 0, 0, QUERY_ROWS - shared))
        return self._attend(queries, group, layer)[:, :, :shared].reshape(len(q), -1)

    def _attend(self, queries: torch.Tensor, group: _Group, layer: RadixAttention) -> torch.Tensor:
        """queries: [n, heads, rows, dim]; returns the same with the values' dim."""
        pool = self.token_to_kv_pool
        buffers = pool.get_key_buffer(layer.layer_id), pool.get_value_buffer(layer.layer_id)
        keys, values = (
            buffer.index_select(0, group.locations)
            .unflatten(0, (group.size, -1))  # [n, context, KV heads, dim]
            .transpose(1, 2)
            .to(queries.dtype)
            for buffer in buffers
        )
        if queries.shape[0] * queries.shape[1] == 1:
            # The threads would divide this one's GEMMs, and the rows' bits with them: give them two
            # of it to divide, as they divide any others.
            queries, keys, values = (x.expand(2, -1, -1, -1) for x in (queries, keys, values))
        attended = scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=group.mask,
            scale=layer.scaling,
            enable_gqa=queries.shape[1] != keys.shape[1],
        )
        return attended[: group.size]

    def _plan(self, layer: RadixAttention, batch: ForwardBatch) -> list[_Group]:
        size = layer.sliding_window_size
        window = UNBOUNDED if size is None or size < 0 else size
        in_swa_pool = (
            self.use_sliding_window_kv_pool
            and self.token_to_kv_pool.layers_mapping[layer.layer_id][1]
        )
        if (window, in_swa_pool) not in self.plans:
            self.plans[window, in_swa_pool] = self._plan_slots(batch, window, in_swa_pool)
        return self.plans[window, in_swa_pool]

    def _plan_slots(self, batch: ForwardBatch, window: int, in_swa_pool: bool) -> list[_Group]:
        """Slots of one size together: a slot's size and bits are its own, whoever is beside it. A
        slot is a request's new rows; in a decode there is one of each."""
        newest = batch.seq_lens - 1
        decode = batch.forward_mode.is_decode()
        oldest = newest if decode else batch.extend_prefix_lens.to(newest)
        contexts = (newest + 1 - self._first_column(oldest, window)).tolist()
        new_rows = [1] * len(contexts) if decode else batch.extend_seq_lens.tolist()
        slots_by_size: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        first_row = 0
        for slot, (context, size) in enumerate(zip(contexts, new_rows, strict=True)):
            slots_by_size[context_size(context), size].append((slot, first_row))
            first_row += size
        groups = []
        for (_, size), slots in slots_by_size.items():
            numbers, first_rows = torch.tensor(slots).T
            new = torch.arange(size)
            rows = (first_rows.unsqueeze(1) + new).flatten()
            positions = oldest[numbers].unsqueeze(1) + new
            requests = batch.req_pool_indices[numbers]
            groups.append(self._group(rows, requests, positions, window, in_swa_pool))
        return groups

    def _group(self, rows, requests, positions, window: int, in_swa_pool: bool) -> _Group:
        """rows: [n * new rows]; requests: [n], in req_to_token; positions: [n, new rows]."""
        oldest, newest = positions[:, :1], positions[:, -1:]
        first = self._first_column(oldest, window)  # [n, 1]
        columns = first + torch.arange(context_size(int((newest + 1 - first).max())))
        seen = columns.unsqueeze(1) <= positions.unsqueeze(2)  # [n, new rows, context]
        seen &= columns.unsqueeze(1) >= positions.unsqueeze(2) - window
        # Where nobody looks: some slot of the request's own that somebody sees, for what lies in
        # stale ones may be NaN.
        columns = columns.maximum(oldest - window).minimum(newest)
        locations = self.req_to_token_pool.req_to_token[requests.unsqueeze(1), columns].long()
        if in_swa_pool:
            locations = self.token_to_kv_pool.translate_loc_from_full_to_swa(locations).long()
        return _Group(rows, locations.flatten(), seen.unsqueeze(1), *positions.shape)

    def _first_column(self, positions: torch.Tensor, window: int) -> torch.Tensor:
        """Of the contexts of these rows; the same for every row of a page."""
        page = self.token_to_kv_pool.page_size
        return (positions // page * page - window).clamp_(min=0) // page * page

    def _save(self, k, v, layer, forward_batch: ForwardBatch, save_kv_cache: bool) -> None:
        if save_kv_cache and k is not None and v is not None:
            where = KVWriteLoc(forward_batch.out_cache_loc, self.swa_out_cache_loc)
            self.token_to_kv_pool.set_kv_buffer(layer, where, k, v)


def _is_causal(layer: RadixAttention, forward_batch: ForwardBatch) -> bool:
    """Self-attention over the request's own tokens, from the first column of its row on."""
    return (
        not layer.is_cross_attention
        and layer.attn_type == AttentionType.DECODER
        and forward_batch.encoder_lens is None
    )


def _refuse_unknown(layer: RadixAttention, forward_batch: ForwardBatch, extra: dict) -> None:
    """Nothing that changes what attention means may be left out in silence; torch_native does."""
    modes = (ForwardMode.EXTEND, ForwardMode.MIXED, ForwardMode.SPLIT_PREFILL, ForwardMode.DECODE)
    unknown = {
        "logit_cap": layer.logit_cap > 0,
        "xai_temperature_len": layer.xai_temperature_len > 0,
        "use_irope": layer.use_irope,
        "pos_encoding_mode": layer.pos_encoding_mode != "NONE",
        "attn_type": layer.attn_type == AttentionType.DECODER_BIDIRECTIONAL,
        "forward_mode": forward_batch.forward_mode not in modes,
        **{name: value is not None and value is not False for name, value in extra.items()},
    }
    if wanted := [name for name, is_wanted in unknown.items() if is_wanted]:
        raise NotImplementedError(
            f"attention backend {NAME} does not support {', '.join(wanted)} of layer"
            f" {layer.layer_id}; choose another one with --attention-backend"
        )


def register() -> None:
    """Make the backend known to SGLang, in this process."""
    register_attention_backend(NAME)(CpuAttnBackend)
