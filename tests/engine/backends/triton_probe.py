"""SGLang's Triton attention kernels in Triton's interpreter, on the CPU; run as a program.

Prints one JSON object: name -> whether the outputs of one request are the same bits, alone and in
other company. The interpreter computes what the kernel says, tile by tile, in numpy: it shows how
the work is divided, not how a GPU rounds.
"""

import json

import torch
from sglang.kernels.ops.attention.decode_attention import decode_attention_fwd
from sglang.kernels.ops.attention.extend_attention import extend_attention_fwd
from sglang.kernels.ops.attention.metadata import get_num_kv_splits_triton

T = 16  # rows per page
HEADS, KV_HEADS, DIM = 4, 2, 16
POOL = 64 * T  # KV slots
CORES = 8  # that the decode kernel believes to have
MAX_SPLITS = 8


class Request:
    """Rows at the end of a context whose KV lies in `pages`, wherever these are in the pool."""

    def __init__(self, seed: int, length: int, pages: list[int], rows: int):
        draw = torch.Generator().manual_seed(seed)
        self.q = torch.randn(rows, HEADS, DIM, generator=draw)
        self.kv = torch.randn(2, length, KV_HEADS, DIM, generator=draw)
        self.rows, self.length = rows, length
        first = torch.tensor(pages) * T
        self.slots = (first[:, None] + torch.arange(T)).flatten()[:length]


def indptr(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32)


def pool_of(requests: list[Request]) -> torch.Tensor:
    """[2, slots, heads, dim], noise where no request is."""
    pool = torch.randn(2, POOL, KV_HEADS, DIM, generator=torch.Generator().manual_seed(99))
    for request in requests:
        pool[:, request.slots] = request.kv
    return pool


def extend(requests: list[Request]) -> list[torch.Tensor]:
    """The canonical pass's kernel: T new rows each, behind a prefix that is in the pool."""
    pool = pool_of(requests)
    q = torch.cat([request.q for request in requests])
    new = torch.cat([request.kv[:, -request.rows :] for request in requests], dim=1).contiguous()
    out = torch.empty_like(q)
    prefixes = [request.slots[: -request.rows] for request in requests]
    extend_attention_fwd(
        q, *new, out, *pool,
        indptr([request.rows for request in requests]),
        indptr([len(prefix) for prefix in prefixes]),
        torch.cat(prefixes),
        None, True, None, T, 1.0, 1.0, page_size=T,
    )  # fmt: skip
    return list(out.split([request.rows for request in requests]))


def decode(requests: list[Request]) -> list[torch.Tensor]:
    """The fast path's kernel; SGLang's own heuristic splits each context."""
    count = len(requests)
    splits = torch.empty(count, dtype=torch.int32)
    lengths = torch.tensor([request.length for request in requests], dtype=torch.int32)
    get_num_kv_splits_triton[(1,)](
        splits, lengths, count, 1, HEADS, KV_HEADS, MAX_SPLITS, CORES, MAX_NUM_SEQ=8
    )
    out = torch.empty(count, HEADS, DIM)
    decode_attention_fwd(
        torch.cat([request.q for request in requests]), *pool_of(requests), out,
        indptr(lengths.tolist()), torch.cat([request.slots for request in requests]),
        torch.empty(count, HEADS, MAX_SPLITS, DIM), torch.empty(count, HEADS, MAX_SPLITS),
        splits, MAX_SPLITS, DIM**-0.5, 1.0, 1.0, page_size=T,
    )  # fmt: skip
    return list(out)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


def subject(rows: int, pages: tuple[int, ...] = (1, 2, 3, 4)) -> Request:
    return Request(7, 4 * T, list(pages), rows)


def company(rows: int, lengths: tuple[int, ...]) -> list[Request]:
    """Other requests of so many pages."""
    return [
        Request(i, pages * T, list(range(10 * i, 10 * i + pages)), rows)
        for i, pages in enumerate(lengths, start=1)
    ]


def probe() -> dict[str, bool]:
    alone = extend([subject(T)])[0]
    first, second, third = company(T, (1, 9, 4))
    longer = subject(T)
    longer.q = longer.q.clone()
    longer.q[T // 2 :] += 1
    longer.kv = longer.kv.clone()
    longer.kv[:, -T // 2 :] += 1
    in_decode = decode([subject(1)])[0]
    return {
        "run again": same(alone, extend([subject(T)])[0]),
        "other slot and neighbours": same(alone, extend([first, second, subject(T), third])[2]),
        "other pages": same(alone, extend([subject(T, (50, 9, 30, 2)), first])[0]),
        "other rows after it": same(alone[: T // 2], extend([longer])[0][: T // 2]),
        "other rows after it show": same(alone[T // 2 :], extend([longer])[0][T // 2 :]),
        "decode, in company": same(in_decode, decode([subject(1), *company(1, (4, 4, 4))])[0]),
    }


if __name__ == "__main__":
    print(json.dumps(probe()))
