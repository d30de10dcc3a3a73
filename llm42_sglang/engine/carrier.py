"""Decode steps that carry pages: where one forward is run as another.

SGLang prepares a decode batch, runs its forward and samples from the logits. The forward of a pass
that carries the batch's rows takes the place of its own; the rest sees the logits of these rows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sglang.srt.model_executor.forward_batch_info import ForwardBatch
from sglang.srt.model_executor.model_runner import ModelRunnerOutput

from llm42_sglang.engine.canonical import DecodeRows

Carry = Callable[[DecodeRows], ModelRunnerOutput]

# For the decode step this process is in (the scheduler is single-threaded); None outside of one.
_carry: Carry | None = None


@contextmanager
def carrying(carry: Carry | None) -> Iterator[None]:
    """While active, the next forward is run by `carry`, if there is one."""
    global _carry
    _carry = carry
    try:
        yield
    finally:
        _carry = None


def carry_pages(original, runner, forward_batch: ForwardBatch, *args, **kwargs):
    """AROUND hook of `ModelRunner.forward`."""
    global _carry
    carry, _carry = _carry, None  # the carrier is a forward as well
    if carry is None:
        return original(runner, forward_batch, *args, **kwargs)
    assert forward_batch.forward_mode.is_decode()
    return carry(
        DecodeRows(
            forward_batch.input_ids,
            forward_batch.req_pool_indices,
            forward_batch.seq_lens,
            forward_batch.out_cache_loc,
        )
    )
