"""Every decode step in the fixed shape, a slot a request: what verification is measured against.

Not a way to serve: `llm42 bench throughput` starts a server like this, for a baseline. Its decode
steps have the bits of canonical passes and need no verification, but G x T rows give G tokens at
most. Its prompts are SGLang's, faster than in passes: only its speed means something.
"""

from collections.abc import Iterator

import torch
from sglang.srt.layers.logits_processor import LogitsProcessorOutput
from sglang.srt.managers.schedule_batch import ScheduleBatch
from sglang.srt.model_executor.model_runner import ModelRunnerOutput

from llm42_sglang.core.pages import page_index
from llm42_sglang.engine.canonical import CanonicalForward, DecodeRows, Slot


def decode(forward: CanonicalForward, batch: ScheduleBatch, rows: DecodeRows) -> ModelRunnerOutput:
    """The output of this decode step, from as many passes as it takes."""
    slots = list(_slots(batch, rows, forward.config.page))
    group = forward.config.group
    logits: list[torch.Tensor] = []
    for first in range(0, len(slots), group):
        some = slots[first : first + group]
        for slot, of_page in zip(some, forward(some), strict=True):
            assert of_page is not None, "a scored slot has no logits"
            logits.append(of_page[len(slot.tokens) - 1])
    output = LogitsProcessorOutput(next_token_logits=torch.stack(logits))
    return ModelRunnerOutput(output, can_run_graph=False)


def _slots(batch: ScheduleBatch, rows: DecodeRows, page_size: int) -> Iterator[Slot]:
    """Of each request the page of its new row, up to it."""
    requests, lengths = rows.req_pool_indices.tolist(), rows.seq_lens.tolist()
    # With overlap the newest token is known to the batch alone.
    newest = rows.input_ids.tolist()
    for req, row, length, token in zip(batch.reqs, requests, lengths, newest, strict=True):
        page = page_index(length - 1, page_size)
        known = [*req.origin_input_ids, *req.output_ids][: length - 1]
        yield Slot(row, page, (*known[page * page_size :], token))
