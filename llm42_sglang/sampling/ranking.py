"""The largest entries of rows, in a fixed order even among equals."""

import torch

NO_TOKEN = -1  # from a row that allows no token; SGLang ends a request at token -1


def greedy(logits: torch.Tensor) -> torch.Tensor:
    """Return the id of the largest logit of each row: [rows] int64. The lowest id wins a tie.

    logits: [rows, vocab]. A row with a NaN, or with nothing but -inf, gives NO_TOKEN.
    torch's own argmax leaves open which of equal maxima it takes. So each row is compared with its
    maximum, and the first hit is taken.
    """
    maxima = logits.max(dim=-1, keepdim=True).values  # NaN wins
    tokens = (logits == maxima).int().argmax(dim=-1)
    return tokens.masked_fill(~(maxima.squeeze(-1) > float("-inf")), NO_TOKEN)


def top_ids(row: torch.Tensor, k: int) -> torch.Tensor:
    """Return the ids of the k largest values: [k] int64, k limited to 0..vocab.

    The largest comes first, and the lowest id first among equals. row: [vocab], without NaN.
    torch.topk leaves the choice among equals open, even at the k-th place. So only the k-th value
    is taken from it. The ids that reach this value are then sorted stably.
    """
    if k <= 0:
        return torch.empty(0, dtype=torch.int64, device=row.device)
    if k >= row.numel():
        return row.sort(descending=True, stable=True).indices
    kth = row.topk(k, sorted=False).values.min()
    ids = (row >= kth).nonzero().squeeze(1)  # ascending; more than k with ties
    order = row[ids].sort(descending=True, stable=True).indices
    return ids[order[:k]]
