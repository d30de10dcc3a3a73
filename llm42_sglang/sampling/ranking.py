"""The largest entries of rows, in an order that leaves nothing open."""

import torch

NO_TOKEN = -1


def greedy(logits: torch.Tensor) -> torch.Tensor:
    """logits: [rows, vocab]; returns token ids [rows], int64; NO_TOKEN where there is none.

    There is none in a row that holds a NaN, nor in one that masks every token with -inf.
    torch leaves the choice among equal maxima open; comparing with the row's maximum and taking
    the first hit does not, and looks at nothing but the row. SGLang ends a request at token -1.
    """
    maxima = logits.max(dim=-1, keepdim=True).values  # NaN wins
    tokens = (logits == maxima).int().argmax(dim=-1)
    return tokens.masked_fill(~(maxima.squeeze(-1) > float("-inf")), NO_TOKEN)


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
