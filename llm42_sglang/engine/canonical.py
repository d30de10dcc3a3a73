"""The canonical pass: one forward of G slots x T rows in EXTEND mode, with the logits of every row.

SGLang does the work: its ForwardBatch, its model runner, its attention backend and KV pool. Only
the batch is ours, and its shape never follows the load. A slot without a page runs a dummy, in the
page and request row that SGLang itself keeps for padding (page 0 of PagedTokenToKVPoolAllocator,
row 0), so no KV slot is reserved. A pass may be narrower than G slots only in the widths that
certification has found to give the same bits as G; and it runs the language-model head only over
slots that need logits, in those widths too. It comes from a CUDA graph where certification has
found the eager pass's bits.

A pass can carry a decode step: the rows of SGLang's decode batch, each a request with one new row,
fill its last slots, with padding. One forward then does what two would do, and where a forward of
few rows takes as long as one of many, pages ride for little. Only in widths that certification has
found to give the same bits with decode rows in them as without.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from sglang.srt.environ import envs
from sglang.srt.managers.schedule_batch import ScheduleBatch
from sglang.srt.model_executor.forward_batch_info import ForwardBatch, ForwardMode
from sglang.srt.model_executor.model_runner import ModelRunner, ModelRunnerOutput

from llm42_sglang.core.config import Config
from llm42_sglang.core.pages import page_span
from llm42_sglang.engine import graphs
from llm42_sglang.engine.backends.mode import Mode
from llm42_sglang.engine.faults import PassFault
from llm42_sglang.engine.ranks import Ranks
from llm42_sglang.platform.experts import every_expert_over_all_rows

PADDING_TOKEN = 0
PADDING_ROW = 0  # ReqToTokenPool: "+1 padding row at index 0"


@dataclass(frozen=True, slots=True)
class Slot:
    """One page of one request."""

    row: int  # the request's row in req_to_token
    page: int
    tokens: tuple[int, ...]  # 1..T real tokens; the remaining rows are padding
    scored: bool = True  # somebody reads its logits


class DecodeRows(NamedTuple):
    """A decode batch: n requests with one new row each."""

    input_ids: torch.Tensor  # [n]
    req_pool_indices: torch.Tensor  # [n]
    seq_lens: torch.Tensor  # [n], the new row included
    out_cache_loc: torch.Tensor  # [n]


class CanonicalForward:
    """Runs canonical passes on one model runner."""

    def __init__(
        self,
        runner: ModelRunner,
        config: Config,
        fault: PassFault | None = None,
        mode: Mode = nullcontext,
        ranks: Ranks | None = None,
        may_carry: bool = False,
    ):
        self.runner = runner
        self.may_carry = may_carry  # decode rows, where certification finds the same bits
        self.ranks = ranks or Ranks()
        self.config = config
        self.fault = fault
        self.mode = mode  # of the attention backend; the fast path is outside of it
        self.widths: tuple[int, ...] = (config.group,)  # slots, ascending; certification adds some
        self.replayed: tuple[int, ...] = ()  # widths that come from CUDA graphs; as certified
        self.carriers: tuple[int, ...] = ()  # widths that may carry decode rows; as certified
        self.replays = 0  # passes that did
        self.req_to_token = runner.req_to_token_pool.req_to_token  # [rows, context]
        self.offsets = torch.arange(config.page, device=runner.device)  # [T]
        self.dummy = Slot(PADDING_ROW, 0, (PADDING_TOKEN,), scored=False)
        self.req_to_token[PADDING_ROW, : config.page] = self.offsets.to(self.req_to_token.dtype)

    def width_for(self, pages: int) -> int:
        """Slots of the narrowest pass that holds so many pages; 0 for none."""
        return next((width for width in self.widths if width >= pages), 0) if pages else 0

    def seats_beside(self, rows: int) -> int:
        """Pages that ride in the narrowest pass that carries so many decode rows; 0 for none."""
        taken = self._slots_of(rows)
        width = next((width for width in self.carriers if width > taken), 0)
        return width - taken if width else 0

    def __call__(self, slots: Sequence[Slot]) -> list[torch.Tensor | None]:
        """Write the slots' canonical KV; per slot its logits [T, vocab], None where not scored.

        Raises RanksDisagreeError, before anything is run, if another rank comes to another pass.
        """
        width = self.width_for(len(slots))
        assert 0 < len(slots) <= width
        filled = [*slots, *[self.dummy] * (width - len(slots))]
        how = graphs.replayed if width in self.replayed else graphs.eager
        logits, run = self._run(filled, self._batch(filled), how)
        self.replays += run.can_run_graph
        return logits[: len(slots)]

    def carry(
        self, slots: Sequence[Slot], decode: DecodeRows
    ) -> tuple[list[torch.Tensor | None], ModelRunnerOutput]:
        """As a pass, of `seats_beside` pages at most; and the output of the decode step in it.

        Raises RanksDisagreeError as a pass does.
        """
        rows = len(decode.input_ids)
        free = self.seats_beside(rows) - len(slots)
        assert slots and free >= 0
        filled = [*slots, *[self.dummy] * free]
        batch = _with_decode_rows(self._batch(filled), decode, self.config.page)
        logits, run = self._run(filled, batch, _of_many_requests, self._slots_of(rows))
        # SGLang's LogitsProcessorOutput: it samples from these.
        run.logits_output.next_token_logits = torch.cat(logits[len(filled) :])[:rows]
        return logits[: len(slots)], run

    def _run(
        self, slots: Sequence[Slot], batch: ScheduleBatch, how, others: int = 0
    ) -> tuple[list[torch.Tensor | None], ModelRunnerOutput]:
        """Logits of the slots, and of `others` more that the batch has after them."""
        if self.ranks.size > 1:
            self.ranks.note(slots, batch.out_cache_loc.tolist())
            self.ranks.require_agreement()
        scored = [*(slot.scored for slot in slots), *[True] * others]
        head = self._head_slots(scored)
        with how(self.runner), self.mode(), head_rows(self._rows_of(head)):
            run = self.runner.forward(
                ForwardBatch.init_new(batch, self.runner, return_hidden_states_before_norm=False)
            )
        if not head:
            return [None] * len(scored), run
        logits = run.logits_output.next_token_logits
        assert len(logits) == len(head) * self.config.page, f"pass returned {len(logits)} rows"
        if self.fault is not None:
            logits = self.fault(logits, batch)
        by_slot = dict(zip(head, logits.split(self.config.page), strict=True))
        return [by_slot[i] if wanted else None for i, wanted in enumerate(scored)], run

    def kv_of(self, row: int, page: int) -> torch.Tensor:
        """A copy of one page's KV, [layers, 2, T, heads * head_dim]."""
        span = page_span(page, self.config.page)
        return self.kv_at(self.req_to_token[row, span.start : span.end].long())

    def kv_at(self, where: torch.Tensor) -> torch.Tensor:
        """A copy of the KV in n slots of the pool, [layers, 2, n, heads * head_dim]."""
        pool = self.runner.token_to_kv_pool
        buffers = (pool.get_key_buffer, pool.get_value_buffer)
        layers = [
            torch.stack([buffer(layer)[where].flatten(1) for buffer in buffers])
            for layer in self.layers
        ]
        return torch.stack(layers)

    @property
    def layers(self) -> range:
        """The layers that this runner holds KV of."""
        pool = self.runner.token_to_kv_pool
        return range(pool.start_layer, pool.start_layer + pool.layer_num)

    def _slots_of(self, rows: int) -> int:
        """Slots that so many decode rows fill."""
        return -(-rows // self.config.page)

    def _head_slots(self, scored: Sequence[bool]) -> list[int]:
        """Indices of the slots that go through the language-model head: a certified width of
        them, the scored ones among them, in order."""
        wanted = [i for i, is_scored in enumerate(scored) if is_scored]
        others = [i for i, is_scored in enumerate(scored) if not is_scored]
        return sorted(wanted + others[: self.width_for(len(wanted)) - len(wanted)])

    def _rows_of(self, slots: Sequence[int]) -> torch.Tensor:
        """Rows of some slots, [n*T]."""
        first = torch.tensor(slots, dtype=torch.int64, device=self.runner.device) * self.config.page
        return (first[:, None] + self.offsets).flatten()

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
            input_ids=torch.tensor(tokens, dtype=torch.int64, device=device),  # [width*T]
            req_pool_indices=torch.tensor(rows, dtype=torch.int64, device=device),  # [width]
            req_pool_indices_cpu=torch.tensor(rows, dtype=torch.int64),
            seq_lens=seq_lens.to(device),
            seq_lens_cpu=seq_lens,
            orig_seq_lens=seq_lens.to(device, torch.int32),
            seq_lens_sum=int(seq_lens.sum()),
            out_cache_loc=torch.cat([self._page_locations(slot) for slot in slots]),  # [width*T]
            prefix_lens=[span.start for span in spans],
            extend_lens=[size] * len(slots),
            extend_num_tokens=len(slots) * size,
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


@contextmanager
def _of_many_requests(runner: ModelRunner) -> Iterator[None]:
    """While active, an eager forward may hold more requests than the server runs: the buffers of
    `EagerRunner.load_batch` have a row for each of those, and it can do without."""
    uncopied = envs.SGLANG_EAGER_INPUT_NO_COPY
    before = uncopied.get()
    uncopied.set(True)
    try:
        with graphs.eager(runner):
            yield
    finally:
        uncopied.set(before)


def _with_decode_rows(batch: ScheduleBatch, decode: DecodeRows, page: int) -> ScheduleBatch:
    """The pass with the rows of a decode batch behind its slots, each a request with one new row,
    and padding to a whole slot, which is a request too: SGLang's own for padding."""
    lengths, requests = decode.seq_lens.tolist(), decode.req_pool_indices.tolist()
    padding = -len(lengths) % page
    new = [1] * len(lengths)
    if padding:
        lengths, requests, new = [*lengths, padding], [*requests, PADDING_ROW], [*new, padding]
    pad = torch.arange(padding, device=batch.device)  # in page 0, which is KV that nobody owns
    seq_lens, rows = torch.tensor(lengths), torch.tensor(requests)
    batch.input_ids = torch.cat(
        [batch.input_ids, decode.input_ids, torch.full_like(pad, PADDING_TOKEN)]
    )
    batch.out_cache_loc = torch.cat([batch.out_cache_loc, decode.out_cache_loc, pad])
    batch.req_pool_indices_cpu = torch.cat([batch.req_pool_indices_cpu, rows])
    batch.req_pool_indices = batch.req_pool_indices_cpu.to(batch.device)
    batch.seq_lens_cpu = torch.cat([batch.seq_lens_cpu, seq_lens])
    batch.seq_lens = batch.seq_lens_cpu.to(batch.device)
    batch.orig_seq_lens = batch.seq_lens.to(torch.int32)
    batch.seq_lens_sum = int(batch.seq_lens_cpu.sum())
    batch.prefix_lens += [length - n for length, n in zip(lengths, new, strict=True)]
    batch.extend_lens += new
    batch.extend_logprob_start_lens += new
    batch.extend_num_tokens += sum(new)
    return batch


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors of one shape hold the same bits."""
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


# Rows of the pass that this process is in (the scheduler is single-threaded); None outside of one.
_head_rows: torch.Tensor | None = None


@contextmanager
def head_rows(rows: torch.Tensor) -> Iterator[None]:
    """While active, the logits processor keeps these rows instead of each request's last one.

    Without rows it keeps the first one, for it wants some; nobody reads what comes of it.
    """
    global _head_rows
    _head_rows = rows if len(rows) else rows.new_zeros(1)
    try:
        yield
    finally:
        _head_rows = None


def keep_head_rows(
    original, processor, hidden_states, hidden_states_before_norm, aux_hidden_states, metadata
):
    """AROUND hook of `LogitsProcessor._get_pruned_states`."""
    if _head_rows is None:
        return original(
            processor, hidden_states, hidden_states_before_norm, aux_hidden_states, metadata
        )
    kept = hidden_states[_head_rows]  # [n, hidden], contiguous
    return kept, hidden_states_before_norm, aux_hidden_states, None, None, []


def fixed_shape_experts(original, *args):
    """AROUND hook of `moe_forward_native`, the experts of plain CPUs."""
    experts = original if _head_rows is None else every_expert_over_all_rows(original)
    return experts(*args)
