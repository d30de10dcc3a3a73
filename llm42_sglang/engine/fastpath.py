"""The fast path of requests that sample: their rows of an ordinary decode, by their own chooser.

SGLang samples the whole batch as ever and sees such a row as a greedy one; its proposal is then
replaced. Ordinary rows keep SGLang's sampler, its speed and its randomness.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from sglang.srt.managers.schedule_batch import Req

from llm42_sglang.engine.request import DeterministicReq

_rows: dict[int, DeterministicReq] = {}  # of the decode step this process is in, by row


@contextmanager
def proposing(reqs: Sequence[Req]) -> Iterator[None]:
    """While active, `sample_own_rows` knows whose rows the decode batch holds."""
    _rows.update(
        (i, req)
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
    # A row that allows no token proposes token 0, for the next step must have some input: the
    # canonical row will allow none either, disagree, and end the request.
    chosen = [
        max(req.chooser.follow(row, req.output_ids, req.track.candidates), 0)
        for row, req in zip(raw, _rows.values(), strict=True)
    ]
    tokens[list(_rows)] = torch.tensor(chosen, dtype=tokens.dtype, device=tokens.device)
    return tokens
