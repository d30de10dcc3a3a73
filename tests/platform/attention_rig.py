"""An attention backend with a KV pool of one layer, and without SGLang's model runner.

`Rig` runs extends and decode steps. A test decides where the pages of a request lie. KV slots that
nobody wrote hold NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from sglang.srt.layers.radix_attention import RadixAttention
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool
from sglang.srt.model_executor.forward_batch_info import ForwardMode

from llm42_sglang.platform.attention import CpuAttnBackend


@dataclass(frozen=True)
class Shape:
    """One layer, and the page size."""

    heads: int = 6
    kv_heads: int = 2
    dim: int = 16
    dtype: torch.dtype = torch.bfloat16
    window: int = -1  # tokens before its own that a row sees; -1: all
    page: int = 32
    cap: float = 0.0  # of the scores, as Gemma 2 has it; 0: none
    sinks: bool = False  # whether each head has one, as in GPT-OSS

    def sink_scores(self) -> torch.Tensor | None:
        """Of the heads: [heads]. Some are below all scores, some above."""
        return torch.linspace(-4, 4, self.heads) if self.sinks else None


@dataclass(frozen=True)
class Tokens:
    """Those of consecutive positions. q: [rows, heads * dim]; k, v: [rows, kv_heads, dim]."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor

    def __getitem__(self, rows) -> "Tokens":
        return Tokens(self.q[rows], self.k[rows], self.v[rows])

    @classmethod
    def join(cls, parts: Sequence["Tokens"]) -> "Tokens":
        """One after the other."""
        return cls(*map(torch.cat, zip(*((part.q, part.k, part.v) for part in parts), strict=True)))


def random_tokens(shape: Shape, rows: int, seed: int) -> Tokens:
    dice = torch.Generator().manual_seed(seed)
    sizes = (shape.heads * shape.dim,), *[(shape.kv_heads, shape.dim)] * 2
    return Tokens(*(torch.randn(rows, *n, generator=dice).to(shape.dtype) for n in sizes))


def pool_of(shape: Shape, pages: int) -> MHATokenToKVPool:
    """A KV pool of one layer, all of it NaN."""
    pool = MHATokenToKVPool(
        *(pages * shape.page, shape.page, shape.dtype, shape.kv_heads, shape.dim),
        layer_num=1,
        device="cpu",
        enable_memory_saver=False,
    )
    pool.buffers = [*pool.k_buffer, *pool.v_buffer]
    for buffer in pool.buffers:
        buffer.fill_(float("nan"))
    return pool


class Rig:
    """`rows` requests of up to `tokens` tokens, their pages strewn over the pool by `seed`."""

    def __init__(self, shape: Shape, rows=4, tokens=256, seed=0, backend=CpuAttnBackend):
        pages = -(-tokens // shape.page)
        order = torch.randperm(rows * pages, generator=torch.Generator().manual_seed(seed))
        slots = order.view(rows, pages, 1) * shape.page + torch.arange(shape.page)
        self.table = slots.flatten(1).int()  # [rows, tokens]
        self.layer = RadixAttention(
            *(shape.heads, shape.dim, shape.dim**-0.5, shape.kv_heads),
            layer_id=0,
            sliding_window_size=shape.window,
            logit_cap=shape.cap,
        )
        self.sinks = shape.sink_scores()
        pool = pool_of(shape, rows * pages)
        requests = SimpleNamespace(req_to_token=self.table)
        self.backend = backend(
            SimpleNamespace(device="cpu", req_to_token_pool=requests, token_to_kv_pool=pool)
        )

    def extend(
        self, parts: Sequence[tuple[int, int, int]], new: Tokens, mode=ForwardMode.EXTEND, **more
    ) -> torch.Tensor:
        """parts: (request row, prefix length, new rows). Returns [rows, heads * dim]."""
        rows, prefix_lens, sizes = torch.tensor(parts).T
        where = torch.cat([self.table[r, p : p + n] for r, p, n in parts])
        lengths = {"extend_prefix_lens": prefix_lens, "extend_seq_lens": sizes}
        batch = self._batch(mode, rows, prefix_lens + sizes, where, **lengths)
        return self._attend(new, batch, **more)

    def decode(self, rows: Sequence[int], lengths: Sequence[int], new: Tokens) -> torch.Tensor:
        """lengths: with the new token. Returns [batch, heads * dim]."""
        requests, seq_lens = torch.tensor(rows), torch.tensor(lengths)
        where = self.table[requests, seq_lens - 1]
        return self._attend(new, self._batch(ForwardMode.DECODE, requests, seq_lens, where))

    def _attend(self, new: Tokens, batch: SimpleNamespace, **more) -> torch.Tensor:
        if self.sinks is not None:
            more["sinks"] = self.sinks
        return self.backend.forward(new.q, new.k, new.v, self.layer, batch, **more)

    def _batch(self, mode, rows, seq_lens, where, **more) -> SimpleNamespace:
        batch = SimpleNamespace(
            forward_mode=mode,
            req_pool_indices=rows,
            seq_lens=seq_lens,
            out_cache_loc=where.long(),
            encoder_lens=None,
            **more,
        )
        self.backend.init_forward_metadata(batch)
        return batch


def reference(shape: Shape, tokens: Tokens) -> torch.Tensor:
    """Causal attention of every row over all before it, in fp64: [rows, heads * dim]."""
    rows = len(tokens.q)
    q = tokens.q.view(rows, shape.heads, shape.dim).double()
    shared = shape.heads // shape.kv_heads
    k, v = (x.double().repeat_interleave(shared, 1) for x in (tokens.k, tokens.v))
    distance = torch.arange(rows).unsqueeze(1) - torch.arange(rows)  # [rows, rows]
    seen = distance >= 0
    if shape.window > -1:
        seen &= distance <= shape.window
    scores = torch.einsum("qhd,khd->hqk", q, k) * shape.dim**-0.5
    if shape.cap:
        scores = shape.cap * torch.tanh(scores / shape.cap)
    scores = scores.masked_fill(~seen, float("-inf"))
    if shape.sinks:
        sinks = shape.sink_scores().double().view(-1, 1, 1).expand(-1, rows, 1)
        scores = torch.cat([scores, sinks], -1)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1)[..., :rows], v).flatten(1)
