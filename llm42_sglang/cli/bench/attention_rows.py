"""One query row of attention, as a decode row and as a row of an extend (`platform.attention`).

The row always has the same query, and the same keys and values at the CONTEXT positions it sees.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention

HEADS, KV_HEADS, HEAD_DIM = 9, 3, 64
CONTEXT = 200  # tokens the probed row sees, itself included
SHARED = HEADS // KV_HEADS
QUERY_ROWS = 4  # a decode's query rows per KV head, at least
CONTEXT_STEP = 32  # a decode's context is padded to a multiple of it


def decode_row(trial: int, rows: int, place: int) -> torch.Tensor:
    """[HEADS * HEAD_DIM] of the probed request, as number `place` of `rows` in one bucket."""
    dice = torch.Generator().manual_seed(1 + rows * 1000 + place)
    lengths = torch.randint(128, 256, (rows,), generator=dice)  # one power of two: one bucket
    lengths[place] = CONTEXT
    context = -(-int(lengths.max()) // CONTEXT_STEP) * CONTEXT_STEP
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
    prefix_len = CONTEXT - 1 - place
    context = prefix_len + rows
    query, key, value = _probe(trial)
    queries = _random(dice, HEADS, rows, HEAD_DIM)
    queries[:, place] = query
    keys, values = (_random(dice, KV_HEADS, context, HEAD_DIM) for _ in range(2))
    keys[:, :CONTEXT], values[:, :CONTEXT] = key[:, :context], value[:, :context]
    mask = torch.ones(rows, context, dtype=torch.bool).tril(prefix_len)
    attended = scaled_dot_product_attention(
        queries.unsqueeze(0),
        keys.unsqueeze(0),
        values.unsqueeze(0),
        attn_mask=mask,
        enable_gqa=True,
    )
    return attended[0, :, place].reshape(-1)


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
