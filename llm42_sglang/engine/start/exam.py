"""The passes that certification runs and compares (A1 to A3).

The subject is a request of random tokens. Its first pages and one far page run in slot 0, one page
in each pass. These rows are the reference. The pages between are not run; their KV is that of the
first pages again, for every request of the exam.

Then the same tokens run again: in other slots and KV pages, beside other requests, several pages in
one pass, and in passes of other widths. The server is idle, so request rows and KV pages are used
without being allocated, and nothing has to be given back.
"""

import logging
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from llm42_sglang.core.pages import page_span
from llm42_sglang.engine.errors import CertificationError, RanksDisagreeError
from llm42_sglang.engine.passes import graphs
from llm42_sglang.engine.passes.canonical import CanonicalForward, Slot, same_bits
from llm42_sglang.engine.passes.shape import Shape

logger = logging.getLogger(__name__)

DEPTH = 3  # first pages of a request that are run; two boundaries lie between them
FAR = 32  # the far page, counted from 1; kernels may split work by the longest context
OWN = DEPTH + 1  # KV pages of each request
SEED = 42  # of the random tokens
# The exceptions of a forward that the model or the device does not support.
CANNOT_RUN = (RuntimeError, AttributeError, IndexError, TypeError)
CANNOT_REPLAY = (*CANNOT_RUN, KeyError, ValueError, AssertionError)


class Bits(NamedTuple):
    """The results of a page's rows."""

    logits: torch.Tensor  # [rows, vocab]
    kv: torch.Tensor  # [layers, 2, rows, heads * head_dim]


class Exam:
    """The subject, its twin, which has the same tokens in other KV pages, and the neighbours.

    Neighbours are requests of other tokens that fill the other slots.
    """

    def __init__(self, forward: CanonicalForward):
        self.forward = forward
        self.size = forward.config.page
        self.group = forward.config.group
        self.passes = 0
        self.replays = 0  # how many of these came from CUDA graphs
        self.shape = Shape((self.group,))  # of the reference
        runner = forward.runner
        self.random = random.Random(SEED)
        self.vocab_size = runner.model_config.vocab_size
        context = self.forward.req_to_token.shape[1] // self.size
        self.far_page = max(DEPTH, min(FAR, context)) - 1
        self.pages = sorted({*range(DEPTH), self.far_page})
        self.tokens = {page: self._random_tokens(self.size) for page in self.pages}
        self._require_room()
        self.subject, self.twin = 1, 2  # request rows; row 0 is SGLang's padding row
        self.neighbours = range(3, 3 + self.group - 1)
        self._place(self.subject, range(1, 1 + OWN))
        # The twin has other pages, in descending order.
        self._place(self.twin, range(2 * OWN, OWN, -1))
        for i, row in enumerate(self.neighbours, start=2):
            self._place(row, range(1 + i * OWN, 1 + (i + 1) * OWN))

    def variations(self) -> Iterator[tuple[str, list[Bits], list[Bits]]]:
        """Run the variations one by one: (assumption and what varies, expected rows, rows)."""
        self.reference = self._run_all(self.subject)
        yield "A1 (same inputs, run again)", self.reference, self._run_all(self.subject)
        twin = self._run_all(self.twin)
        yield "A2 (other request row and KV pages)", self.reference, twin
        if self.group > 1:
            crowded = self._run_all(self.twin, crowded=True)
            yield "A2 (other slots, beside other requests)", self.reference, crowded
        yield "A2 (several pages in one pass)", self.reference[:DEPTH], self._run_together()
        yield from self._other_tails(self.shape)

    def small_part(self, shape: Shape) -> Iterator[tuple[str, list[Bits], list[Bits]]]:
        """Run as little as may tell whether a pass of another width, and a page beside others,
        still have the same bits."""
        reference = self._run_all(self.subject)
        yield "A1 (same inputs, run again)", reference, self._run_all(self.subject, shape=shape)
        crowded = self._run_all(self.twin, crowded=True)
        yield "A2 (other slots, beside other requests)", reference, crowded

    def _other_tails(self, shape: Shape) -> Iterator[tuple[str, list[Bits], list[Bits]]]:
        """Vary the rows after the middle of a page: padding first, then other tokens."""
        cut, page, of_page = self.size // 2, DEPTH - 1, self.reference[DEPTH - 1]
        head = [Bits(of_page.logits[:cut], of_page.kv[:, :, :cut])]
        for tail in ((), self._random_tokens(self.size - cut)):
            bits = self._run(self.subject, page, self.tokens[page][:cut] + tail, shape=shape)
            changed = [Bits(bits.logits[:cut], bits.kv[:, :, :cut])]
            yield "A3 (other rows after it)", head, changed

    def equal_widths(self) -> tuple[int, ...]:
        """Return the widths that may be run: G, and smaller powers of two that give its bits."""
        widths = [2**i for i in range(self.group.bit_length() - 1)]
        equal = [
            width for width in widths if self._on_all_ranks(self._equals_reference(Shape((width,))))
        ]
        return (*equal, self.group)

    def equal_graphs(self, widths: tuple[int, ...]) -> tuple[int, ...]:
        """Return the widths for which SGLang has a CUDA graph that gives the eager pass's bits."""
        held = [n for n in widths if graphs.captured(self.forward.runner, n * self.size)]
        return tuple(n for n in held if self._on_all_ranks(self._replays_reference(n)))

    def _on_all_ranks(self, equal: bool) -> bool:
        return all(self.forward.ranks.gather(equal))

    def head_variations(self, shape: Shape) -> Iterator[tuple[str, list[Bits], list[Bits]]]:
        """Vary the language-model head: it computes one slot alone, in the shape that was found."""
        if self.group > 1:
            alone = self._run_all(self.twin, crowded=True, scored=False, shape=shape)
            yield "A2 (language-model head over one slot)", self.reference, alone

    def _equals_reference(self, shape: Shape) -> bool:
        self._forget()
        runs = [(self.reference, self._run_all(self.subject, shape=shape))]
        if shape.widths[-1] > 1:
            runs.append((self.reference, self._run_all(self.twin, crowded=True, shape=shape)))
        runs += [(expected, actual) for _, expected, actual in self._other_tails(shape)]
        return all(_equal(*run) for run in runs)

    def _replays_reference(self, width: int) -> bool:
        def problem() -> str | None:
            if not self._equals_reference(Shape((width,), replayed=(width,))):
                return "gives other bits than the eager pass"
            replayed = eager == self.passes - self.replays
            return None if replayed else "is not replayed for every page of the exam"

        eager = self.passes - self.replays
        what, remedy = (
            f"the CUDA graph of {width} slots",
            "add --cuda-graph-backend-prefill disabled",
        )
        return self._may_be_used(what, problem, CANNOT_REPLAY, remedy)

    def _may_be_used(
        self,
        what: str,
        find_problem: Callable[[], str | None],
        errors: tuple[type[Exception], ...],
        remedy: str,
    ) -> bool:
        """Whether a kind of pass runs without a problem. Otherwise the log names the problem.

        what: the kind of pass. find_problem: runs it and returns what is wrong, or None.
        errors: the exceptions that mean it cannot run. remedy: what the user can do in that case.
        """
        try:
            problem = find_problem()
        except RanksDisagreeError:
            raise
        except errors as error:
            problem = f"cannot run ({type(error).__name__}: {error})"
            if self.forward.ranks.size > 1:  # other ranks may be in the middle of the pass
                raise CertificationError(
                    f"{what} {problem} on one rank or all; {remedy}"
                ) from error
        if problem:
            logger.warning("llm42: %s %s; not used", what, problem)
        return problem is None

    def _run_all(self, row: int, **how: Any) -> list[Bits]:
        """Run every page of a request, one in each pass, in order. how: options of `_run`."""
        return [self._run(row, page, **how) for page in self.pages]

    def _run(
        self,
        row: int,
        page: int,
        tokens: tuple[int, ...] | None = None,
        *,
        shape: Shape | None = None,
        crowded: bool = False,
        scored: bool = True,
    ) -> Bits:
        """Run one pass with the page in slot 0, or, if `crowded`, beside neighbours.

        tokens: of the page, if other than the request's. scored: whether the neighbours' logits are
        asked for too. When crowded, each page has another slot, and the neighbours' pages have
        other indices.
        """
        shape = shape or self.shape
        slots = self._company(shape.widths[-1] - 1, scored) if crowded else []
        at = len(slots) - self.pages.index(page) % (len(slots) + 1)
        slots.insert(at, Slot(row, page, tokens or self.tokens[page]))
        return self._read(self._pass(slots, shape)[at], row, page)

    def _company(self, count: int, scored: bool) -> list[Slot]:
        pages = [self.pages[-1 - i % len(self.pages)] for i in range(count)]  # the far one first
        return [
            Slot(row, page, self._random_tokens(self.size), scored)
            for row, page in zip(self.neighbours, pages, strict=False)
        ]

    def _run_together(self) -> list[Bits]:
        """Run the twin's first pages, as many in each pass as fit."""
        bits = []
        for first in range(0, DEPTH, self.group):
            pages = range(first, min(first + self.group, DEPTH))
            slots = [Slot(self.twin, page, self.tokens[page]) for page in pages]
            rows = zip(self._pass(slots, self.shape), pages, strict=True)
            bits += [self._read(logits, self.twin, page) for logits, page in rows]
        return bits

    def _pass(self, slots: list[Slot], shape: Shape) -> list[torch.Tensor | None]:
        logits, replayed = self.forward.run(slots, shape)
        self.passes += 1
        self.replays += replayed
        return logits

    def _read(self, logits: torch.Tensor, row: int, page: int) -> Bits:
        return Bits(logits.clone(), self.forward.kv_of(row, page))

    def _place(self, row: int, pages: range) -> None:
        """Write KV pages into the request's row of req_to_token.

        Each page that is run has a KV page of its own. The pages between name the first ones again.
        """
        for i in range(self.far_page + 1):
            own = self.pages.index(i) if i in self.pages else i % DEPTH
            where = pages[own] * self.size + self.forward.offsets
            span = page_span(i, self.size)
            self.forward.req_to_token[row, span.start : span.end] = where.to(
                self.forward.req_to_token.dtype
            )

    def _forget(self) -> None:
        """Overwrite the KV of the subject and its twin, so that a pass must write it anew."""
        pool = self.forward.runner.token_to_kv_pool
        for row in (self.subject, self.twin):
            where = self.forward.req_to_token[row, : (self.far_page + 1) * self.size].long()
            for layer in self.forward.layers:
                pool.get_key_buffer(layer)[where] = 1
                pool.get_value_buffer(layer)[where] = 1

    def _random_tokens(self, count: int) -> tuple[int, ...]:
        return tuple(self.random.randrange(self.vocab_size) for _ in range(count))

    def _require_room(self) -> None:
        context = self.forward.req_to_token.shape[1]
        if DEPTH * self.size > context:
            raise CertificationError(
                f"certification needs a context of {DEPTH * self.size} tokens, the server has "
                f"{context}; raise --context-length or lower --llm42-page"
            )
        if not has_room(self.forward, self.group):
            have_pages, have_rows = room(self.forward)
            raise CertificationError(
                f"certification needs {(self.group + 1) * OWN} KV pages and {self.group + 1} "
                f"request rows, the server has {have_pages} and {have_rows}; raise "
                "--max-total-tokens or --max-running-requests, or lower --llm42-group"
            )


def _equal(expected: list[Bits], actual: list[Bits]) -> bool:
    return all(
        same_bits(want, got)
        for each in zip(expected, actual, strict=True)
        for want, got in zip(*each, strict=True)
    )


def has_room(forward: CanonicalForward, group: int) -> bool:
    """Whether the server's pools are large enough to certify passes of `group` slots."""
    pages, rows = room(forward)
    return (group + 1) * OWN <= pages and group + 1 <= rows


def room(forward: CanonicalForward) -> tuple[int, int]:
    """Return how many KV pages and request rows the server has. Number 0 of each is for padding."""
    runner = forward.runner
    pages = runner.token_to_kv_pool_allocator.size // forward.config.page
    return pages, runner.req_to_token_pool.size
