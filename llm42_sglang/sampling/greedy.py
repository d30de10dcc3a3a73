"""Temperature 0: the token with the largest logit, the lowest id among equals."""

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
