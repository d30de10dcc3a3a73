"""The fast path of requests that sample: their rows of an ordinary decode, by their own chooser.

SGLang samples the whole batch as ever and sees such a row as a greedy one; its proposal is then
replaced. Ordinary rows keep SGLang's sampler, its speed and its randomness.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from sglang.srt.managers.schedule_batch import Req

from llm42_sglang.engine.request import DeterministicReq

# Of the decode step this process is in, by row: whose it is, and how many earlier steps of that
# request have not been seen yet.
_rows: dict[int, tuple[DeterministicReq, int]] = {}


@contextmanager
def proposing(reqs: Sequence[Req], in_flight: Callable[[DeterministicReq], int]) -> Iterator[None]:
    """While active, `sample_own_rows` knows whose rows the decode batch holds."""
    _rows.update(
        (i, (req, in_flight(req)))
        for i, req in enumerate(reqs)
        if isinstance(req, DeterministicReq) and not req.chooser.plain
    )
    try:
        yield
    finally:
        _rows.clear()


def sample_own_rows(original, runner, logits_output, forward_batch) -> torch.Tensor:
    """AROUND hook of `ModelRunner.sample`; returns token ids [batch]."""
    if not _rows:
        return original(runner, logits_output, forward_batch)
    raw = logits_output.next_token_logits[list(_rows)]  # a copy: SGLang samples in place
    tokens = original(runner, logits_output, forward_batch)
    chosen = [req.propose(row, n) for row, (req, n) in zip(raw, _rows.values(), strict=True)]
    tokens[list(_rows)] = torch.tensor(chosen, dtype=tokens.dtype, device=tokens.device)
    return tokens
