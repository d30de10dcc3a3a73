"""The largest entries of a row, in an order that leaves nothing open."""

import torch


def top_ids(row: torch.Tensor, k: int) -> torch.Tensor:
    """Ids of the k largest values, largest first, the lowest id first among equals.

    row: [vocab], without NaN; returns [k] int64, k cut to 0..vocab.
    torch.topk leaves the choice among equals open, at the k-th place too. So only the k-th value
    is taken from it; who reaches that value is looked up by id, and sorted stably.
    """
    if k <= 0:
        return torch.empty(0, dtype=torch.int64, device=row.device)
    if k >= row.numel():
        return row.sort(descending=True, stable=True).indices
    kth = row.topk(k, sorted=False).values.min()
    reached = (row >= kth).nonzero().squeeze(1)  # ids ascending; more than k with ties
    order = row[reached].sort(descending=True, stable=True).indices
    return reached[order[:k]]
