"""The canonical pass: one forward of G slots x T rows in EXTEND mode, every row's logits returned.

SGLang does the work: its ForwardBatch, its model runner, its attention backend and KV pool. Only
the batch is ours, and its shape never changes: a slot without a page runs a dummy, in the page and
request row that SGLang itself keeps for padding (page 0, row 0), so no KV slot is reserved.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from sglang.srt.managers.schedule_batch import ScheduleBatch
from sglang.srt.model_executor.forward_batch_info import ForwardBatch, ForwardMode
from sglang.srt.model_executor.model_runner import ModelRunner

from llm42_sglang.core.config import Config
from llm42_sglang.core.pages import page_span
from llm42_sglang.engine.faults import PassFault

PADDING_TOKEN = 0
PADDING_ROW = 0  # ReqToTokenPool: "+1 padding row at index 0"


@dataclass(frozen=True, slots=True)
class Slot:
    """One page of one request."""

    row: int  # the request's row in req_to_token
    page: int
    tokens: tuple[int, ...]  # 1..T real tokens; the remaining rows are padding


class CanonicalForward:
    """Runs canonical passes of one fixed shape on one model runner."""

    def __init__(self, runner: ModelRunner, config: Config, fault: PassFault | None = None):
        self.runner = runner
        self.config = config
        self.fault = fault
        self.req_to_token = runner.req_to_token_pool.req_to_token  # [rows, context]
        self.offsets = torch.arange(config.page, device=runner.device)  # [T]
        self.dummy = Slot(PADDING_ROW, 0, (PADDING_TOKEN,))
        self.req_to_token[PADDING_ROW, : config.page] = self.offsets.to(self.req_to_token.dtype)

    def __call__(self, slots: Sequence[Slot]) -> torch.Tensor:
        """Write the slots' canonical KV; returns logits [G*T, vocab], row g*T+i for slot g."""
        assert 0 < len(slots) <= self.config.group
        filled = [*slots, *[self.dummy] * (self.config.group - len(slots))]
        batch = self._batch(filled)
        with every_row_has_logits():
            output = self.runner.forward(
                ForwardBatch.init_new(batch, self.runner, return_hidden_states_before_norm=False)
            ).logits_output
        logits = output.next_token_logits
        assert logits.shape[0] == self.config.rows, f"pass returned {logits.shape[0]} rows"
        return logits if self.fault is None else self.fault(logits, batch)

    def _batch(self, slots: Sequence[Slot]) -> ScheduleBatch:
        """The pass as SGLang's own batch, without requests."""
        size, device = self.config.page, self.runner.device
        spans = [page_span(slot.page, size) for slot in slots]
        rows = [slot.row for slot in slots]
        tokens = [
            token
            for slot in slots
            for token in (*slot.tokens, *[PADDING_TOKEN] * (size - len(slot.tokens)))
        ]
        seq_lens = torch.tensor([span.end for span in spans], dtype=torch.int64)
        return ScheduleBatch(
            reqs=[],
            forward_mode=ForwardMode.EXTEND,
            device=device,
            req_to_token_pool=self.runner.req_to_token_pool,
            token_to_kv_pool_allocator=self.runner.token_to_kv_pool_allocator,
            model_config=self.runner.model_config,
            spec_algorithm=self.runner.spec_algorithm,
            input_ids=torch.tensor(tokens, dtype=torch.int64, device=device),  # [G*T]
            req_pool_indices=torch.tensor(rows, dtype=torch.int64, device=device),  # [G]
            req_pool_indices_cpu=torch.tensor(rows, dtype=torch.int64),
            seq_lens=seq_lens.to(device),
            seq_lens_cpu=seq_lens,
            orig_seq_lens=seq_lens.to(device, torch.int32),
            seq_lens_sum=int(seq_lens.sum()),
            out_cache_loc=torch.cat([self._page_locations(slot) for slot in slots]),  # [G*T]
            prefix_lens=[span.start for span in spans],
            extend_lens=[size] * len(slots),
            extend_num_tokens=self.config.rows,
            extend_logprob_start_lens=[size] * len(slots),
        )

    def _page_locations(self, slot: Slot) -> torch.Tensor:
        """KV slots of the whole page, [T]; also names them in the request's row.

        The allocator hands out whole pages, so the rows past the known tokens are the request's
        own: padding writes there, and so will the tokens to come.
        """
        span = page_span(slot.page, self.config.page)
        first = self.req_to_token[slot.row, span.start].to(torch.int64)
        locations = first + self.offsets
        self.req_to_token[slot.row, span.start : span.end] = locations.to(self.req_to_token.dtype)
        return locations


_canonical = False  # this process is inside a canonical pass (the scheduler is single-threaded)


@contextmanager
def every_row_has_logits() -> Iterator[None]:
    """While active, the logits processor keeps every row instead of each request's last one."""
    global _canonical
    _canonical = True
    try:
        yield
    finally:
        _canonical = False


def keep_every_row(
    original, processor, hidden_states, hidden_states_before_norm, aux_hidden_states, metadata
):
    """AROUND hook of `LogitsProcessor._get_pruned_states`."""
    if not _canonical:
        return original(
            processor, hidden_states, hidden_states_before_norm, aux_hidden_states, metadata
        )
    return hidden_states, hidden_states_before_norm, aux_hidden_states, None, None, []
