"""The canonical pass: one forward of G slots x T rows in EXTEND mode, with the logits of every row.

The batch is ours, and its shape does not depend on the load. SGLang does the work, with its
ForwardBatch, model runner, attention backend and KV pool.

A slot without a page runs a dummy page. For that it uses the page and the request row that SGLang
keeps for padding (page 0 of PagedTokenToKVPoolAllocator, row 0), so no KV slot is reserved.

Certification decides what a pass may look like (`Shape`). A pass may be narrower than G slots in
widths that give the same bits. The language-model head computes only slots that need logits, in
those widths too. A pass comes from a CUDA graph if that gives the bits of the eager pass.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from sglang.srt.managers.schedule_batch import ScheduleBatch
from sglang.srt.model_executor.forward_batch_info import ForwardBatch, ForwardMode
from sglang.srt.model_executor.model_runner import ModelRunner, ModelRunnerOutput

from llm42_sglang.core.config import Config
from llm42_sglang.core.pages import page_span
from llm42_sglang.engine.faults import PassFault
from llm42_sglang.engine.hooks import around
from llm42_sglang.engine.passes import graphs
from llm42_sglang.engine.passes.backends.mode import Mode
from llm42_sglang.engine.passes.ranks import Ranks
from llm42_sglang.engine.passes.shape import Shape
from llm42_sglang.platform.experts import every_expert_over_all_rows
from llm42_sglang.platform.tiles import few_rows_at_a_time

PADDING_TOKEN = 0
PADDING_ROW = 0  # ReqToTokenPool: "+1 padding row at index 0"


@dataclass(frozen=True, slots=True)
class Slot:
    """One page of one request, to be run in a slot of a pass."""

    row: int  # the request's row in req_to_token
    page: int
    tokens: tuple[int, ...]  # 1..T real tokens; the remaining rows are padding
    scored: bool = True  # whether its logits are needed


class DecodeRows(NamedTuple):
    """A decode batch: n requests with one new row each."""

    input_ids: torch.Tensor  # [n]
    req_pool_indices: torch.Tensor  # [n]
    seq_lens: torch.Tensor  # [n], with the new row
    out_cache_loc: torch.Tensor  # [n]


class PassRun(NamedTuple):
    """The results of a pass."""

    logits: list[torch.Tensor | None]  # per slot [T, vocab]; None where not scored
    replayed: bool  # whether it came from a CUDA graph


class CanonicalForward:
    """Runs canonical passes of a certified shape on one model runner. It keeps no state."""

    def __init__(
        self,
        runner: ModelRunner,
        config: Config,
        shape: Shape | None = None,
        fault: PassFault | None = None,
        mode: Mode = nullcontext,
        ranks: Ranks | None = None,
    ):
        """Prepare passes on a model runner.

        shape: certified. Without one, passes have G slots and no step is canonical.
        fault: changes the results, in tests. mode: of the attention backend, for passes alone.
        """
        self.runner = runner
        self.ranks = ranks or Ranks()
        self.config = config
        self.shape = shape or Shape((config.group,))
        self.fault = fault
        self.mode = mode  # of the attention backend; decode steps are outside of it
        self.req_to_token = runner.req_to_token_pool.req_to_token  # [rows, context]
        self.offsets = torch.arange(config.page, device=runner.device)  # [T]
        self.dummy = Slot(PADDING_ROW, 0, (PADDING_TOKEN,), scored=False)
        self.req_to_token[PADDING_ROW, : config.page] = self.offsets.to(self.req_to_token.dtype)

    def __call__(self, slots: Sequence[Slot]) -> list[torch.Tensor | None]:
        """Run a pass: write the slots' canonical KV, and return the logits of each slot.

        The logits are [T, vocab]; None for a slot that is not scored.
        Raises RanksDisagreeError, before anything runs, if another rank would run another pass.
        """
        return self.run(slots, self.shape).logits

    def run(self, slots: Sequence[Slot], shape: Shape) -> PassRun:
        """Run a pass in another shape than the certified one, as certification does."""
        width = shape.width_for(len(slots))
        assert 0 < len(slots) <= width
        filled = [*slots, *[self.dummy] * (width - len(slots))]
        batch = self._batch(filled)
        if self.ranks.size > 1:
            self.ranks.agree(filled, batch.out_cache_loc.tolist())
        how = graphs.replayed if width in shape.replayed else graphs.eager
        head = _head_slots([slot.scored for slot in filled], shape)
        kept = head_rows(self._rows_of(head))
        with how(self.runner), self.mode(), few_rows_at_a_time(), kept:
            output = self.runner.forward(
                ForwardBatch.init_new(batch, self.runner, return_hidden_states_before_norm=False)
            )
        logits = self._logits_of(head, output, batch)
        given = [logits[i] if slot.scored else None for i, slot in enumerate(slots)]
        return PassRun(given, output.can_run_graph)

    def _logits_of(
        self, head: Sequence[int], output: ModelRunnerOutput, batch: ScheduleBatch
    ) -> dict[int, torch.Tensor]:
        """Return logits [T, vocab] by index of the slot.

        head: the slots that went through the language-model head.
        """
        if not head:
            return {}
        logits = output.logits_output.next_token_logits
        assert len(logits) == len(head) * self.config.page, f"pass returned {len(logits)} rows"
        if self.fault is not None:
            logits = self.fault(logits, batch)
        return dict(zip(head, logits.split(self.config.page), strict=True))

    def wait(self) -> None:
        """Wait until the device has finished what was launched. On a CPU that is always so."""
        if self.runner.device != "cpu":
            torch.get_device_module(self.runner.device).synchronize()

    def kv_of(self, row: int, page: int) -> torch.Tensor:
        """Return a copy of one page's KV: [layers, 2, T, heads * head_dim]."""
        span = page_span(page, self.config.page)
        return self.kv_at(self.req_to_token[row, span.start : span.end].long())

    def kv_at(self, where: torch.Tensor) -> torch.Tensor:
        """Return a copy of the KV in n slots of the pool: [layers, 2, n, heads * head_dim]."""
        pool = self.runner.token_to_kv_pool
        buffers = (pool.get_key_buffer, pool.get_value_buffer)
        layers = [
            torch.stack([buffer(layer)[where].flatten(1) for buffer in buffers])
            for layer in self.layers
        ]
        return torch.stack(layers)

    @property
    def layers(self) -> range:
        """The layers whose KV this runner holds."""
        pool = self.runner.token_to_kv_pool
        return range(pool.start_layer, pool.start_layer + pool.layer_num)

    def _rows_of(self, slots: Sequence[int]) -> torch.Tensor:
        """Return the indices of the rows of n slots: [n*T]."""
        first = torch.tensor(slots, dtype=torch.int64, device=self.runner.device) * self.config.page
        return (first[:, None] + self.offsets).flatten()

    def _batch(self, slots: Sequence[Slot]) -> ScheduleBatch:
        """Return the pass as a batch of SGLang's, without requests."""
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
        """Return the KV slots of the whole page, [T], and write them into the request's row.

        The allocator gives out whole pages, so the KV slots past the known tokens are the request's
        own. Padding writes there, and later tokens will.
        """
        span = page_span(slot.page, self.config.page)
        first = self.req_to_token[slot.row, span.start].to(torch.int64)
        locations = first + self.offsets
        self.req_to_token[slot.row, span.start : span.end] = locations.to(self.req_to_token.dtype)
        return locations


def _head_slots(scored: Sequence[bool], shape: Shape) -> list[int]:
    """Return the indices of the slots that go through the language-model head, in order.

    The scored slots are among them, and others fill them up to a certified width.
    """
    wanted = [i for i, is_scored in enumerate(scored) if is_scored]
    others = [i for i, is_scored in enumerate(scored) if not is_scored]
    return sorted(wanted + others[: shape.width_for(len(wanted)) - len(wanted)])


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors of one shape hold the same bits."""
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


# The rows that the pass in progress needs logits of; None outside of a pass. One is enough, because
# the scheduler has a single thread.
_head_rows: torch.Tensor | None = None


@contextmanager
def head_rows(rows: torch.Tensor) -> Iterator[None]:
    """While active, the logits processor keeps these rows instead of each request's last one.

    rows: [n] indices. If there are none it keeps the first row, for it needs one, and the logits of
    that row are not read.
    """
    global _head_rows
    _head_rows = rows if len(rows) else rows.new_zeros(1)
    try:
        yield
    finally:
        _head_rows = None


@around(
    "sglang.srt.layers.logits_processor.LogitsProcessor._get_pruned_states",
    "get the logits of every row of a pass",
)
def keep_head_rows(
    original, processor, hidden_states, hidden_states_before_norm, aux_hidden_states, metadata
):
    """The rows that go through the language-model head."""
    if _head_rows is None:
        return original(
            processor, hidden_states, hidden_states_before_norm, aux_hidden_states, metadata
        )
    kept = hidden_states[_head_rows]  # [n, hidden], contiguous
    return kept, hidden_states_before_norm, aux_hidden_states, None, None, []


@around(
    "sglang.srt.layers.moe.fused_moe_native.moe_forward_native",
    "give every expert a fixed number of rows in canonical passes",
)
def fixed_shape_experts(original, *args):
    """The experts of plain CPUs."""
    experts = original if _head_rows is None else every_expert_over_all_rows(original)
    return experts(*args)
