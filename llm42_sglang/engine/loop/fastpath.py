"""The rows of deterministic requests in a decode step, drawn by their own chooser.

SGLang samples the whole batch as ever and sees such a row as a greedy one; its token is then
replaced. Ordinary rows keep SGLang's sampler, its speed and its randomness.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from sglang.srt.managers.schedule_batch import Req

from llm42_sglang.engine.loop.request import DeterministicReq
from llm42_sglang.sampling import greedy

# Of the decode step this process is in, by row. Where a greedy request proposes a candidate it is
# not in here: SGLang's sampler proposes the same.
_rows: dict[int, DeterministicReq] = {}


@contextmanager
def drawing(reqs: Sequence[Req]) -> Iterator[None]:
    """While active, `sample_own_rows` knows whose rows the decode batch holds."""
    _rows.update(
        (i, req)
        for i, req in enumerate(reqs)
        if isinstance(req, DeterministicReq) and (req.in_flight[-1] or not req.chooser.plain)
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
    tokens[list(_rows)] = torch.tensor(_drawn(raw), dtype=tokens.dtype, device=tokens.device)
    return tokens


def _drawn(raw: torch.Tensor) -> list[int]:
    """A token per row; raw: [rows, vocab]. Those of the greedy ones in one call."""
    reqs = list(_rows.values())
    plain = [i for i, req in enumerate(reqs) if req.chooser.plain]
    largest = dict(zip(plain, greedy(raw[plain]).tolist(), strict=True)) if plain else {}
    return [
        req.drawn(row, largest[i]) if i in largest else req.draw(row)
        for i, (req, row) in enumerate(zip(reqs, raw, strict=True))
    ]
