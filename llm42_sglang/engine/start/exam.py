"""The passes that certification runs and compares (A1 to A3).

The subject is a request of random tokens. Its first pages and one far page run together, in the
first slots of as few passes as hold them. These rows are the reference. The pages between are not
run; their KV is that of the first pages again, for every request of the exam.

Then the same tokens run again: in other KV pages, with another end of a page, alone, in other slots
beside other requests, and in passes of other widths. The server is idle, so request rows and KV
pages are used without being allocated, and nothing has to be given back.
"""

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from llm42_sglang.core.pages import page_span
from llm42_sglang.engine.errors import CertificationError, RanksDisagreeError
from llm42_sglang.engine.passes import graphs
from llm42_sglang.engine.passes.canonical import CanonicalForward, Slot, same_bits
from llm42_sglang.engine.passes.shape import FEWEST, Shape

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

    Neighbours are requests of other tokens for the other slots.
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
        _, rows = room(forward)
        self.neighbours = range(3, 3 + min(self.group - 1, rows - 2))
        self._place(self.subject, range(1, 1 + OWN))
        # The twin has other pages, in descending order.
        self._place(self.twin, range(2 * OWN, OWN, -1))
        for row in self.neighbours:  # which share their pages, for nobody reads their rows
            self._place(row, range(1 + 2 * OWN, 1 + 3 * OWN))

    def variations(self) -> Iterator[tuple[str, list[Bits], list[Bits]]]:
        """Run the variations one by one: (assumption and what varies, expected rows, rows)."""
        self.reference = self._run_all(self.subject)
        yield "A1 (same inputs, run again)", self.reference, self._run_all(self.subject)
        twin = self._run_all(self.twin)
        yield "A2 (other request row and KV pages)", self.reference, twin
        yield from self._other_tails(self.shape)
        if self.group > 1:
            yield from self._alone()
            crowded = self._run_crowded(self.twin)
            yield "A2 (other slots, beside other requests)", self.reference, crowded

    def _alone(self) -> Iterator[tuple[str, list[Bits], list[Bits]]]:
        """Run a page after others and a first page, each beside dummies in its slot."""
        after, first = self._slot(self.subject, DEPTH - 1), self._slot(self.twin, 0)
        yield "A2 (several pages in one pass)", [self.reference[after.page]], self._run_alone(after)
        self._forget()  # a first page sees no KV of later ones
        yield "A2 (several pages in one pass)", [self.reference[first.page]], self._run_alone(first)

    def small_part(self, shape: Shape) -> Iterator[tuple[str, list[Bits], list[Bits]]]:
        """Run as little as may tell whether a pass of another width, and a page beside others,
        still have the same bits."""
        reference = self._run_all(self.subject)
        narrow = self._run_all(self.subject, Shape(shape.widths[:1], shape.replayed))
        yield "A1 (same inputs, run again)", reference, narrow
        crowded = self._run_crowded(self.twin)
        yield "A2 (other slots, beside other requests)", reference, crowded

    def _other_tails(self, shape: Shape) -> Iterator[tuple[str, list[Bits], list[Bits]]]:
        """Vary the rows after the middle of a page: padding first, then other tokens."""
        cut, page = self.size // 2, DEPTH - 1
        expected = [_first_rows(self.reference[page], cut)]
        beside = page % shape.widths[-1]  # pages before it in its pass
        before = [self._slot(self.subject, i) for i in range(page - beside, page)]
        for tail in ((), self._random_tokens(self.size - cut)):
            slot = Slot(self.subject, page, self.tokens[page][:cut] + tail)
            bits = self._run([*before, slot], shape)[-1]
            yield "A3 (other rows after it)", expected, [_first_rows(bits, cut)]

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
            self._run_all(self.twin)  # its KV may be that of a width with other bits
            slots = self._beside([self._slot(self.twin, self.far_page)], self.group, scored=False)
            one = self._run(slots, shape)
            yield "A2 (language-model head over one slot)", self.reference[-1:], one

    def _equals_reference(self, shape: Shape) -> bool:
        self._forget()
        runs = [(self.reference, self._run_all(self.subject, shape))]
        if shape.widths[-1] > 1:
            runs.append((self.reference, self._run_crowded(self.twin, shape)))
        runs += [(expected, actual) for _, expected, actual in self._other_tails(shape)]
        return all(_equal(*run) for run in runs)

    def _replays_reference(self, width: int) -> bool:
        def problem() -> str | None:
            if not self._equals_reference(Shape((width,), replayed=(width,))):
                return "gives other bits than the eager pass"
            replayed = eager == self.passes - self.replays
            return None if replayed else "is not replayed for every pass of the exam"

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

    def _run_all(self, row: int, shape: Shape | None = None) -> list[Bits]:
        """Run every page of a request, in order, in the first slots of as few passes as hold them.

        The other slots have dummy pages.
        """
        shape = shape or self.shape
        passes = self._passes_of(row, shape.widths[-1])
        return [bits for slots in passes for bits in self._run(slots, shape)]

    def _run_alone(self, slot: Slot) -> list[Bits]:
        """Run one page in its slot of `_run_all`, beside dummy pages."""
        before = self.pages.index(slot.page) % self.group
        return self._run([self.forward.dummy] * before + [slot], self.shape)

    def _run_crowded(self, row: int, shape: Shape | None = None) -> list[Bits]:
        """Run every page of a request beside neighbours, in other slots than `_run_all`."""
        shape = shape or self.shape
        width, found = shape.widths[-1], []
        for turn, slots in enumerate(self._passes_of(row, 2 if width > 2 else 1)):
            found += self._run(self._beside(slots, width, turn), shape)
        return found

    def _beside(
        self, slots: Sequence[Slot], width: int, turn: int = 0, scored: bool = True
    ) -> list[Slot]:
        """Return the slots of a pass with these among them, and pages of neighbours in the others.

        turn: moves the slots. scored: whether the neighbours' logits are asked for too.
        """
        others = self._company(width - len(slots), scored)
        each = width // len(slots)
        places = sorted((width - 1 - 3 * turn - i * each) % width for i in range(len(slots)))
        for place, slot in zip(places, slots, strict=True):
            others.insert(place, slot)
        return others

    def _company(self, count: int, scored: bool) -> list[Slot]:
        """Return pages of the neighbours, the far one first; dummies where there are too few."""
        around = len(self.pages)
        pages = [
            Slot(row, self.pages[-1 - (first + i) % around], self._random_tokens(self.size), scored)
            for first in range(around)
            for i, row in enumerate(self.neighbours)
        ]
        return (pages + [self.forward.dummy] * count)[:count]

    def _passes_of(self, row: int, each: int) -> list[list[Slot]]:
        """Return every page of a request, in order, `each` of them for a pass."""
        slots = [self._slot(row, page) for page in self.pages]
        return [slots[i : i + each] for i in range(0, len(slots), each)]

    def _slot(self, row: int, page: int) -> Slot:
        return Slot(row, page, self.tokens[page])

    def _run(self, slots: Sequence[Slot], shape: Shape) -> list[Bits]:
        """Run one pass, and return the bits of the pages of the subject and its twin."""
        rows_of, replayed = self.forward.run(slots, shape)
        self.passes += 1
        self.replays += replayed
        return [
            Bits(rows.clone(), self.forward.kv_of(slot.row, slot.page))
            for slot, rows in zip(slots, rows_of, strict=True)
            if rows is not None and slot.row in (self.subject, self.twin)
        ]

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
        requests = 2 if self.group == 1 else FEWEST  # the subject, its twin and a neighbour
        pages, rows = room(self.forward)
        if pages < requests * OWN or rows < requests:
            raise CertificationError(
                f"certification needs {requests * OWN} KV pages and {requests} request rows, the "
                f"server has {pages} and {rows}; raise --max-total-tokens or "
                "--max-running-requests"
            )


def _first_rows(bits: Bits, count: int) -> Bits:
    return Bits(bits.logits[:count], bits.kv[:, :, :count])


def _equal(expected: list[Bits], actual: list[Bits]) -> bool:
    return all(
        same_bits(want, got)
        for each in zip(expected, actual, strict=True)
        for want, got in zip(*each, strict=True)
    )


def room(forward: CanonicalForward) -> tuple[int, int]:
    """Return how many KV pages and request rows the server has. Number 0 of each is for padding."""
    runner = forward.runner
    pages = runner.token_to_kv_pool_allocator.size // forward.config.page
    return pages, runner.req_to_token_pool.size
