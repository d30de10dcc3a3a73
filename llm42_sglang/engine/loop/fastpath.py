"""In a decode step, the rows of deterministic requests are drawn by their own choosers.

SGLang samples the whole batch as ever, and takes such a row for a greedy one. Then its token is
replaced. Ordinary rows keep SGLang's sampler, its speed and its randomness.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from sglang.srt.managers.schedule_batch import Req

from llm42_sglang.engine.hooks import around
from llm42_sglang.engine.loop.request import DeterministicReq
from llm42_sglang.sampling import greedy

# Deterministic requests of the decode step this process is in, by row. A greedy request that only
# proposes a candidate is left out: SGLang's sampler proposes the same token.
_rows: dict[int, DeterministicReq] = {}


@contextmanager
def drawing(reqs: Sequence[Req]) -> Iterator[None]:
    """While active, `sample_own_rows` draws the rows of these requests, the batch of the step."""
    _rows.update(
        (i, req)
        for i, req in enumerate(reqs)
        if isinstance(req, DeterministicReq) and (req.in_flight[-1] or not req.chooser.plain)
    )
    try:
        yield
    finally:
        _rows.clear()


@around("sglang.srt.model_executor.model_runner.ModelRunner.sample", "draw for our own rows")
def sample_own_rows(original, runner, logits_output, forward_batch) -> torch.Tensor:
    """Returns token ids [batch]."""
    if not _rows:
        return original(runner, logits_output, forward_batch)
    raw = logits_output.next_token_logits[list(_rows)]  # a copy: SGLang samples in place
    tokens = original(runner, logits_output, forward_batch)
    tokens[list(_rows)] = torch.tensor(_drawn(raw), dtype=tokens.dtype, device=tokens.device)
    return tokens


def _drawn(raw: torch.Tensor) -> list[int]:
    """One token per row. raw: [rows, vocab]. All greedy rows are drawn in one call."""
    reqs = list(_rows.values())
    plain = [i for i, req in enumerate(reqs) if req.chooser.plain]
    largest = dict(zip(plain, greedy(raw[plain]).tolist(), strict=True)) if plain else {}
    return [
        req.drawn(row, largest[i]) if i in largest else req.draw(row)
        for i, (req, row) in enumerate(zip(reqs, raw, strict=True))
    ]
