"""`llm42_cpu`: attention for plain CPUs in O(new rows * context).

SGLang's torch_native backend pads the queries of an extend to the whole sequence, O(L * L). It
decodes one request after the other, in every layer. Here an extend attends with its new rows only.

Each request is a slot: its new rows, and the context that they see. Contexts are padded to few
sizes, and slots of one size attend in one call. So the pages of a prompt take a few calls, not one
each. torch's kernel works on each request and head alone, so sharing a call changes no bit.

A decode row is a slot of one row. Its context is padded by its own length, whatever the other rows
are, and to the same size as for its page in an extend. So the kernel sums it as it sums that row in
an extend. Certification finds out whether this holds. If not, deterministic requests are verified.

Cross and encoder attention go to torch_native. What neither backend computes is refused.
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
# Measured with torch 2.14 on AMD with AVX2, in fp32, where no rounding hides a difference; AVX-512
# agrees. The kernel walks the context in blocks of KV_BLOCK columns. The rest goes to one GEMM: up
# to 192 columns are summed at once, between 192 and 384 in two halves, from 384 on as 192 and the
# rest. So a row's bits change with the padded size at these sizes only. They do not change with the
# number of query rows, from QUERY_ROWS on.
QUERY_ROWS = 4  # the fewest query rows, which are the heads of one KV head, in a call
KV_BLOCK = 512  # tokens
SIZES = (64, 192, 384, KV_BLOCK)  # tokens in the last block
UNBOUNDED = 1 << 40  # tokens: a window that hides nothing


def context_size(tokens: int) -> int:
    """Return how many columns a context of so many tokens is padded to."""
    whole, rest = divmod(tokens - 1, KV_BLOCK)  # rest: columns before the last one, in its block
    return whole * KV_BLOCK + next(size for size in SIZES if size > rest)


@dataclass(frozen=True, slots=True)
class _Group:
    """n slots of one size, which attend in one call."""

    rows: torch.Tensor  # [n * new rows], indices into the batch's rows
    locations: torch.Tensor  # [n * context] KV slots
    mask: torch.Tensor  # broadcasts to [n, heads, new rows, context]: True where a row may attend
    size: int  # n
    new_rows: int  # of each slot


class CpuAttnBackend(TorchNativeAttnBackend):
    """Plans once for each forward and kind of layer, then attends layer by layer."""

    def init_forward_metadata(self, forward_batch: ForwardBatch) -> None:
        """Forget the plans of the last forward."""
        super().init_forward_metadata(forward_batch)
        # By sliding window, and whether the layer's KV is in the pool for sliding windows.
        self.plans: dict[tuple[int, bool], list[_Group]] = {}

    def forward_extend(
        self,
        q,
        k,
        v,
        layer: RadixAttention,
        forward_batch: ForwardBatch,
        save_kv_cache=True,
        sinks: torch.Tensor | None = None,
        **extra,
    ) -> torch.Tensor:
        """Return the attended rows: [rows, heads * the values' dim]. q: [rows, heads * dim].

        All KV is written before any row attends. A request with one new row attends as in a decode.
        sinks: [heads], a score of each head that counts for a row's weights and has no value.
        Raises NotImplementedError for a layer or batch that this backend cannot compute.
        """
        _refuse_unknown(layer, forward_batch, extra)
        if _is_causal(layer, forward_batch):
            return self._attend_all(q, k, v, layer, forward_batch, save_kv_cache, sinks)
        _refuse_unknown(layer, forward_batch, {"sinks": sinks})
        return super().forward_extend(q, k, v, layer, forward_batch, save_kv_cache)

    def forward_decode(
        self,
        q,
        k,
        v,
        layer: RadixAttention,
        forward_batch: ForwardBatch,
        save_kv_cache=True,
        sinks: torch.Tensor | None = None,
        **extra,
    ) -> torch.Tensor:
        """Return the attended rows: [batch, heads * the values' dim]. q: [batch, heads * dim].

        sinks: as in an extend.
        Raises NotImplementedError for a layer or batch that this backend cannot compute.
        """
        _refuse_unknown(layer, forward_batch, extra)
        if _is_causal(layer, forward_batch):
            return self._attend_all(q, k, v, layer, forward_batch, save_kv_cache, sinks)
        _refuse_unknown(layer, forward_batch, {"sinks": sinks})
        return super().forward_decode(q, k, v, layer, forward_batch, save_kv_cache)

    def _attend_all(self, q, k, v, layer, forward_batch: ForwardBatch, save_kv_cache: bool, sinks):
        """Write the rows' KV, then return the attended rows: [rows, heads * the values' dim]."""
        self._save(k, v, layer, forward_batch, save_kv_cache)
        output = q.new_empty(len(q), layer.tp_q_head_num * layer.v_head_dim)
        for group in self._plan(layer, forward_batch):
            attend = self._attend_one_row_each if group.new_rows == 1 else self._attend_pages
            attended = attend(q.index_select(0, group.rows), group, layer, sinks)
            output.index_copy_(0, group.rows, attended)
        return output

    def _attend_pages(self, q: torch.Tensor, group: _Group, layer, sinks) -> torch.Tensor:
        """Return [n * new rows, heads * the values' dim]. q: [n * new rows, heads * dim]."""
        queries = q.view(group.size, group.new_rows, layer.tp_q_head_num, layer.qk_head_dim)
        if sinks is not None:
            sinks = sinks.view(-1, 1, 1)
        # [n, heads, new rows, dim]
        attended = self._attend(queries.transpose(1, 2), group, layer, sinks)
        return attended.transpose(1, 2).reshape(len(q), -1)

    def _attend_one_row_each(self, q: torch.Tensor, group: _Group, layer, sinks) -> torch.Tensor:
        """Return [n, heads * the values' dim]. q: [n, heads * dim].

        The query heads of one KV head become the rows of one attention.
        """
        shared = layer.tp_q_head_num // layer.tp_k_head_num  # query heads of a KV head
        queries = q.view(len(q), layer.tp_k_head_num, shared, layer.qk_head_dim)
        if sinks is not None:
            sinks = sinks.view(layer.tp_k_head_num, shared, 1)
        if shared < QUERY_ROWS:
            missing = (0, 0, 0, QUERY_ROWS - shared)
            queries = pad(queries, missing)
            sinks = None if sinks is None else pad(sinks, missing)
        return self._attend(queries, group, layer, sinks)[:, :, :shared].reshape(len(q), -1)

    def _attend(self, queries: torch.Tensor, group: _Group, layer, sinks) -> torch.Tensor:
        """Return [n, heads, rows, the values' dim]. queries: [n, heads, rows, dim].

        sinks: broadcasts to [heads, rows, 1].
        """
        pool = self.token_to_kv_pool
        buffers = pool.get_key_buffer(layer.layer_id), pool.get_value_buffer(layer.layer_id)
        keys, values = (
            buffer.index_select(0, group.locations)
            .unflatten(0, (group.size, -1))  # [n, context, KV heads, dim]
            .transpose(1, 2)
            .to(queries.dtype)
            for buffer in buffers
        )
        if layer.logit_cap > 0 or sinks is not None:
            return _attend_by_hand(queries, keys, values, group.mask, layer, sinks)
        if queries.shape[0] * queries.shape[1] == 1:
            # With a single request and head, the threads would divide its GEMMs, and the rows' bits
            # would change. So it is given to them twice, and they divide the two.
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
        """Return the batch's slots, grouped by size. In a decode every slot has one new row.

        A slot's size depends on its own request alone, and so do its bits.
        """
        newest = batch.seq_lens - 1
        decode = batch.forward_mode.is_decode()
        oldest = newest if decode else batch.extend_prefix_lens.to(newest)
        contexts = (newest + 1 - self._first_column(oldest, window)).tolist()
        new_rows = [1] * len(contexts) if decode else batch.extend_seq_lens.tolist()
        slots_by_size: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        first_row = 0
        for slot, (context, count) in enumerate(zip(contexts, new_rows, strict=True)):
            slots_by_size[context_size(context), count].append((slot, first_row))
            first_row += count
        groups = []
        for (_, count), slots in slots_by_size.items():
            indices, first_rows = torch.tensor(slots).T
            offsets = torch.arange(count)
            rows = (first_rows.unsqueeze(1) + offsets).flatten()
            positions = oldest[indices].unsqueeze(1) + offsets
            requests = batch.req_pool_indices[indices]
            groups.append(self._group(rows, requests, positions, window, in_swa_pool))
        return groups

    def _group(self, rows, requests, positions, window: int, in_swa_pool: bool) -> _Group:
        """Return the plan for n slots of one size.

        rows: [n * new rows]; requests: [n], rows of req_to_token; positions: [n, new rows].
        """
        oldest, newest = positions[:, :1], positions[:, -1:]
        first = self._first_column(oldest, window)  # [n, 1]
        columns = first + torch.arange(context_size(int((newest + 1 - first).max())))
        visible = columns.unsqueeze(1) <= positions.unsqueeze(2)  # [n, new rows, context]
        visible &= columns.unsqueeze(1) >= positions.unsqueeze(2) - window
        # A column that no row sees names a KV slot that some row sees: stale slots may hold NaN.
        columns = columns.maximum(oldest - window).minimum(newest)
        locations = self.req_to_token_pool.req_to_token[requests.unsqueeze(1), columns].long()
        if in_swa_pool:
            locations = self.token_to_kv_pool.translate_loc_from_full_to_swa(locations).long()
        return _Group(rows, locations.flatten(), visible.unsqueeze(1), *positions.shape)

    def _first_column(self, positions: torch.Tensor, window: int) -> torch.Tensor:
        """Return the first column of each row's context; all rows of a page have the same one."""
        page = self.token_to_kv_pool.page_size
        return (positions // page * page - window).clamp_(min=0) // page * page

    def _save(self, k, v, layer, forward_batch: ForwardBatch, save_kv_cache: bool) -> None:
        if save_kv_cache and k is not None and v is not None:
            locations = KVWriteLoc(forward_batch.out_cache_loc, self.swa_out_cache_loc)
            self.token_to_kv_pool.set_kv_buffer(layer, locations, k, v)


def _attend_by_hand(queries, keys, values, mask, layer: RadixAttention, sinks) -> torch.Tensor:
    """Return [n, heads, rows, the values' dim], the scores capped as in Gemma 2, or with sinks.

    torch's kernel has neither. The slots attend one after the other: with other slots in the same
    GEMM, its threads would divide it in another way.
    """
    shared = queries.shape[1] // keys.shape[1]  # query heads of a KV head
    attended = []
    for q, k, v, visible in zip(queries, keys, values, mask, strict=True):
        k, v = (x.float().repeat_interleave(shared, 0) for x in (k, v))
        scores = q.float() @ k.transpose(1, 2)
        if layer.logit_cap > 0:
            scores = (scores * (layer.scaling / layer.logit_cap)).tanh() * layer.logit_cap
        else:
            scores = scores * layer.scaling
        scores = scores.masked_fill(~visible, float("-inf"))
        if sinks is not None:
            scores = torch.cat([scores, sinks.float().expand(*scores.shape[:2], 1)], -1)
        attended.append(scores.softmax(-1)[..., : k.shape[1]] @ v)
    return torch.stack(attended).to(queries.dtype)


def _is_causal(layer: RadixAttention, forward_batch: ForwardBatch) -> bool:
    """Whether a layer attends to the request's own tokens, each row up to itself."""
    return (
        not layer.is_cross_attention
        and layer.attn_type == AttentionType.DECODER
        and forward_batch.encoder_lens is None
    )


def _refuse_unknown(layer: RadixAttention, forward_batch: ForwardBatch, extra: dict) -> None:
    """Raise NotImplementedError if a layer or batch asks for anything that would be ignored.

    torch_native ignores some of these without a word.
    """
    modes = (ForwardMode.EXTEND, ForwardMode.MIXED, ForwardMode.SPLIT_PREFILL, ForwardMode.DECODE)
    unknown = {
        "logit_capping_method": layer.logit_capping_method != "tanh",
        "xai_temperature_len": layer.xai_temperature_len > 0,
        "use_irope": layer.use_irope,
        "pos_encoding_mode": layer.pos_encoding_mode != "NONE",
        "attn_type": layer.attn_type == AttentionType.DECODER_BIDIRECTIONAL,
        "forward_mode": forward_batch.forward_mode not in modes,
        **{name: value is not None and value is not False for name, value in extra.items()},
    }
    if unsupported := [name for name, is_asked in unknown.items() if is_asked]:
        raise NotImplementedError(
            f"attention backend {NAME} does not support {', '.join(unsupported)} of layer"
            f" {layer.layer_id}; choose another one with --attention-backend"
        )


def register() -> None:
    """Register the backend with SGLang, in this process."""
    register_attention_backend(NAME)(CpuAttnBackend)
