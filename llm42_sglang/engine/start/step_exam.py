"""The decode steps that certification runs: for which sizes are the rows canonical (A4)?

Canonical passes compute the rows of a text of random tokens. These rows are the reference. Then
SGLang's own decode forward computes rows of that text, in steps of every size that the server may
have. Logits and KV of every layer must be the reference's, bit for bit.

Each row of a step is a request that knows the text up to some length. So one step examines as many
lengths as it has rows, short ones beside long ones. Requests share the full pages of the text, of
which there are two copies in the KV pool. The last page of each request is its own: it has
canonical KV before the new row, and KV of other tokens from there on. The server is idle, so rows
and pages are used without being allocated.

A kernel that sums in another order changes few numbers of a row, and rounding hides most of these
changes: in a model with narrow layers, nine rows of ten came out alike. So the exam compares
NUMBERS numbers of KV for each size. For that it adds other lengths in the same pages.

Every size is examined with every length once. A size with more rows than there are lengths takes
one step. Smaller sizes come first. A size that is not begun in time is not canonical. To find no
canonical size is no failure: then all tokens are verified.
"""

import logging
import random
import time
from collections.abc import Collection, Iterator, Sequence

import torch
from sglang.srt.managers.schedule_batch import ScheduleBatch
from sglang.srt.model_executor.forward_batch_info import ForwardBatch, ForwardMode
from sglang.srt.model_executor.model_runner import ModelRunner, ModelRunnerOutput

from llm42_sglang.core.pages import page_index, page_span
from llm42_sglang.engine.passes.canonical import CanonicalForward, DecodeRows, Slot, same_bits
from llm42_sglang.engine.passes.shape import Shape
from llm42_sglang.engine.start.exam import SEED, room

logger = logging.getLogger(__name__)

MOST = 64  # rows of the largest step that is examined
NUMBERS = 200_000  # numbers of KV that are compared for each size, as far as there are rows
SECONDS = 9.0  # after that no other size is begun
# Lengths in tokens at which backends change how they sum; page ends are added to them.
EDGES = (64, 128, 192, 256, 384, 512, 1024)


class StepExam:
    """The text in two copies, and the last pages of the requests."""

    def __init__(self, forward: CanonicalForward, shape: Shape):
        """shape: of the passes that will serve, for they are the reference."""
        self.forward = forward
        self.shape = shape
        self.runner = forward.runner
        self.size = forward.config.page
        self.random = random.Random(SEED)
        self.deadline = time.perf_counter() + SECONDS
        self.passes = 0  # that computed the reference
        self.rows = 0  # that were compared
        pages, requests = room(forward)
        longest = min(self.runner.model_config.context_len, pages * self.size)
        around = {edge + more for edge in (0, self.size, *EDGES) for more in (0, 1)}
        edges = sorted(n for n in around if 0 < n <= longest)
        self.pages = sorted({page_index(n - 1, self.size) for n in edges})  # that have new rows
        self.lengths = self._with_others(edges, longest)  # tokens, with the new row
        count = len(self.pages)
        self.texts = (
            self._locations(range(1, 1 + count)),
            self._locations(range(2 * count, count, -1)),  # the second copy, in descending order
        )
        self.most = min(MOST, requests, pages - 2 * count)
        numbers = 2 * count + torch.arange(1, 1 + max(0, self.most), device=self.runner.device)
        self.last_pages = numbers[:, None] * self.size + self.forward.offsets  # KV slots, [rows, T]

    def _with_others(self, edges: Sequence[int], longest: int) -> list[int]:
        """Return the edges and other lengths in the same pages, as many as NUMBERS asks for."""
        spans = (page_span(page, self.size) for page in self.pages)
        within = {n + 1 for span in spans for n in range(*span) if n < longest} - {*edges}
        each = self.forward.kv_at(self.forward.offsets[:1]).numel()  # numbers of KV in a row
        count = min(len(within), max(0, NUMBERS // each - len(edges)))
        return sorted([*edges, *self.random.sample(sorted(within), count)])

    def canonical_sizes(self) -> tuple[int, ...]:
        """Return the sizes of canonical steps, in rows, ascending."""
        sizes: list[int] = []
        if self.most > 0:
            self._run_reference()
        for shape in shapes(self.runner.decode_cuda_graph_capture_bs, self.most):
            if not self._on_all_ranks(time.perf_counter() < self.deadline):
                logger.warning(
                    "llm42: steps of %d rows or more will be verified: not examined in time",
                    shape[0],
                )
                break
            if all(self._is_canonical(size) for size in {shape[0], shape[-1]}):
                sizes += shape
        return tuple(sizes)

    def lost(self, certified: Collection[int]) -> int | None:
        """Return the smallest or the largest certified size if it is canonical no more, else
        None."""
        sizes = {size for size in (min(certified, default=0), max(certified, default=0)) if size}
        if sizes and self.most > 0:
            self._run_reference()
        return next(
            (n for n in sorted(sizes) if n <= self.most and not self._is_canonical(n)), None
        )

    def _run_reference(self) -> None:
        """Run canonical passes over the text's pages and keep logits and KV of the new rows."""
        vocab, group = self.runner.model_config.vocab_size, self.forward.config.group
        self._name(1, self.texts[0])
        slots = [
            Slot(1, page, tuple(self.random.randrange(vocab) for _ in range(self.size)))
            for page in self.pages
        ]
        passes = [
            self.forward.run(slots[i : i + group], self.shape).logits
            for i in range(0, len(slots), group)
        ]
        self.passes = len(passes)
        tokens = torch.tensor([slot.tokens for slot in slots])  # [pages, T]
        logits = torch.stack([rows for one in passes for rows in one if rows is not None])
        pages = [self.pages.index(page_index(n - 1, self.size)) for n in self.lengths]
        offsets = [(n - 1) % self.size for n in self.lengths]
        self.tokens = tokens[pages, offsets].to(self.runner.device)
        self.logits = logits[pages, offsets]  # [lengths, vocab]
        self.kv = self.forward.kv_at(self.texts[0][self._tensor(self.lengths) - 1])
        self._copy_kv(*self.texts)

    def _is_canonical(self, size: int) -> bool:
        return all(self._on_all_ranks(self._step_is_canonical(drawn)) for drawn in self._deal(size))

    def _deal(self, size: int) -> Iterator[list[int]]:
        """Yield the steps of this size. Each is a list of indices into `lengths`, one for each row.

        The first step has the shortest lengths beside the longest. The rest follows in any order.
        Lengths of the shorter half fill up the last step.
        """
        count = len(self.lengths)
        by_contrast = [i // 2 if i % 2 == 0 else count - 1 - i // 2 for i in range(count)]
        rest = by_contrast[size:]
        order = by_contrast[:size] + self.random.sample(rest, len(rest))
        order += [self.random.randrange(-(-count // 2)) for _ in range(-count % size)]
        for i in range(0, len(order), size):
            yield self.random.sample(order[i : i + size], size)

    def _step_is_canonical(self, which: list[int]) -> bool:
        """Run one step whose rows have these lengths (indices); compare it with the reference."""
        rows = self._lay(which)
        logits = decode_step(self.runner, rows).logits_output.next_token_logits
        self.rows += len(which)
        return same_bits(logits, self.logits[which]) and same_bits(
            self.forward.kv_at(rows.out_cache_loc), self.kv[:, :, which]
        )

    def _lay(self, which: list[int]) -> DecodeRows:
        """Prepare a step of requests with these lengths. Each knows the text before its new row."""
        own = self.last_pages[: len(which)]
        sources = []  # [T] each: the KV slots that are copied into the last pages
        for row, index in enumerate(which):
            text, position = self.random.choice(self.texts), self.lengths[index] - 1
            start, end = page_span(page_index(position, self.size), self.size)
            self._name(1 + row, torch.cat([text[:start], own[row]]))
            known = self.forward.offsets < position - start
            others = text[: self.size].flip(0)  # none at its own offset in the page
            sources.append(torch.where(known, text[start:end], others))
        self._copy_kv(torch.cat(sources), own.flatten())
        lengths = self._tensor([self.lengths[index] for index in which])
        requests = self._tensor(range(1, 1 + len(which)))
        return DecodeRows(
            self.tokens[which], requests, lengths, own[requests - 1, (lengths - 1) % self.size]
        )

    def _locations(self, pages: Sequence[int]) -> torch.Tensor:
        """Return the KV slots of a copy of the text that lies in these KV pages.

        Pages of the text without new rows repeat the first KV page.
        """
        places = dict(zip(self.pages, pages, strict=True))
        last = self.pages[-1]
        return torch.cat([self._page(places.get(page, pages[0])) for page in range(last + 1)])

    def _page(self, number: int) -> torch.Tensor:
        """Return the KV slots of a KV page: [T]."""
        return number * self.size + self.forward.offsets

    def _name(self, row: int, locations: torch.Tensor) -> None:
        table = self.forward.req_to_token
        table[row, : len(locations)] = locations.to(table.dtype)

    def _copy_kv(self, source: torch.Tensor, target: torch.Tensor) -> None:
        pool = self.runner.token_to_kv_pool
        for layer in self.forward.layers:
            for buffer in (pool.get_key_buffer(layer), pool.get_value_buffer(layer)):
                buffer[target] = buffer[source]

    def _tensor(self, numbers: Sequence[int]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self.runner.device)

    def _on_all_ranks(self, true: bool) -> bool:
        return all(self.forward.ranks.gather(true))


def shapes(captured: Sequence[int], most: int) -> Iterator[range]:
    """Yield the sizes up to `most`, those together that SGLang runs in one shape.

    SGLang pads a step to the next size of which it has captured a CUDA graph. Larger steps, or all
    where there are no graphs, run in their own size.
    """
    first = 1
    for last in [*sorted(captured), *range(max(captured, default=0) + 1, most + 1)]:
        if first <= most:
            yield range(first, min(last, most) + 1)
        first = last + 1


def decode_step(runner: ModelRunner, rows: DecodeRows) -> ModelRunnerOutput:
    """Run SGLang's own forward of a decode batch, as it runs while serving."""
    requests, lengths = rows.req_pool_indices.cpu(), rows.seq_lens.cpu()
    batch = ScheduleBatch(
        reqs=[],
        forward_mode=ForwardMode.DECODE,
        device=runner.device,
        req_to_token_pool=runner.req_to_token_pool,
        token_to_kv_pool_allocator=runner.token_to_kv_pool_allocator,
        model_config=runner.model_config,
        spec_algorithm=runner.spec_algorithm,
        input_ids=rows.input_ids,
        req_pool_indices=rows.req_pool_indices,
        req_pool_indices_cpu=requests,
        seq_lens=rows.seq_lens,
        seq_lens_cpu=lengths,
        orig_seq_lens=rows.seq_lens.to(torch.int32),
        seq_lens_sum=int(lengths.sum()),
        out_cache_loc=rows.out_cache_loc,
    )
    return runner.forward(
        ForwardBatch.init_new(batch, runner, return_hidden_states_before_norm=False)
    )
