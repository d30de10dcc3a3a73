"""One query row of attention, as a decode row and as a row of an extend (`platform.attention`).

The row always has the same query, and the same keys and values at the CONTEXT positions it sees.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention

HEADS, KV_HEADS, HEAD_DIM = 9, 3, 64
CONTEXT = 200  # tokens the probed row sees, itself included
SHARED = HEADS // KV_HEADS
# As in `platform.attention`, which needs SGLang to be imported; a test compares them.
QUERY_ROWS = 4
KV_BLOCK = 512
SIZES = (64, 192, 384, KV_BLOCK)


def context_size(tokens: int) -> int:
    """Columns that a context is padded to."""
    whole, rest = divmod(tokens - 1, KV_BLOCK)
    return whole * KV_BLOCK + next(size for size in SIZES if size > rest)


def decode_row(trial: int, rows: int, place: int) -> torch.Tensor:
    """[HEADS * HEAD_DIM] of the probed request, as number `place` of `rows` in one call."""
    dice = torch.Generator().manual_seed(1 + rows * 1000 + place)
    lengths = torch.randint(128, 256, (rows,), generator=dice)  # one power of two: one call
    lengths[place] = CONTEXT
    context = context_size(int(lengths.max()))
    query, key, value = _probe(trial)
    queries = _random(dice, rows, KV_HEADS, QUERY_ROWS, HEAD_DIM)
    queries[place] = 0
    queries[place, :, :SHARED] = query.view(KV_HEADS, SHARED, HEAD_DIM)
    keys, values = (_random(dice, rows, KV_HEADS, context, HEAD_DIM) for _ in range(2))
    keys[place, :, :CONTEXT], values[place, :, :CONTEXT] = key, value
    mask = (torch.arange(context) < lengths.unsqueeze(1))[:, None, None, :]
    attended = scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    return attended[place, :, :SHARED].reshape(-1)


def extend_row(trial: int, rows: int, place: int) -> torch.Tensor:
    """[HEADS * HEAD_DIM] of the probed position, as number `place` of `rows` new ones."""
    dice = torch.Generator().manual_seed(2 + rows * 1000 + place)
    return _extend(trial, dice, slots=1, slot=0, rows=rows, place=place)[:, place].reshape(-1)


def extend_page(trial: int, slots: int, slot: int, rows: int) -> torch.Tensor:
    """[HEADS, rows, HEAD_DIM] of a page with the same queries, keys and values in every slot."""
    dice = torch.Generator().manual_seed(3 + slots * 1000 + slot)
    page = torch.Generator().manual_seed(trial)
    return _extend(trial, dice, slots, slot, rows, place=rows - 1, page=page)


def _extend(
    trial: int,
    dice: torch.Generator,
    slots: int,
    slot: int,
    rows: int,
    place: int,
    page: torch.Generator | None = None,
) -> torch.Tensor:
    """[HEADS, rows, HEAD_DIM] of one slot of several; `page` draws its other queries."""
    prefix_len = CONTEXT - 1 - place
    context = context_size(prefix_len + rows)
    query, key, value = _probe(trial)
    queries = _random(dice, slots, HEADS, rows, HEAD_DIM)
    if page is not None:
        queries[slot] = _random(page, HEADS, rows, HEAD_DIM)
    queries[slot, :, place] = query
    keys, values = (_random(dice, slots, KV_HEADS, context, HEAD_DIM) for _ in range(2))
    keys[slot, :, :CONTEXT], values[slot, :, :CONTEXT] = key, value
    positions = torch.arange(prefix_len, prefix_len + rows)
    mask = torch.arange(context) <= positions.unsqueeze(1)  # [rows, context]
    return scaled_dot_product_attention(queries, keys, values, attn_mask=mask, enable_gqa=True)[
        slot
    ]


def _probe(trial: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """query [HEADS, HEAD_DIM], key and value [KV_HEADS, CONTEXT, HEAD_DIM]."""
    dice = torch.Generator().manual_seed(trial)
    shape = (KV_HEADS, CONTEXT, HEAD_DIM)
    return (
        _random(dice, HEADS, HEAD_DIM),
        _random(dice, *shape),
        _random(dice, *shape),
    )


def _random(dice: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=dice).bfloat16()
