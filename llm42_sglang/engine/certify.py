"""Start-up certification: A1-A3 are measured on the loaded model, not believed.

    A1  same inputs, same bits
    A2  a slot depends on its own tokens and its request's earlier pages, not on its index, its
        neighbours, the number of pages in one pass, or where in the KV pool the pages lie
    A3  a row depends on no row after it

A request of random tokens is run one page per pass in slot 0, its first pages and a far one (what
lies between is old KV of its own, the same for all): the reference.
Every variation must reproduce its logits and the KV of every layer, bit for bit. Narrower passes
that reproduce them too may be run; others are left out, which is no failure. Nor is it one where a
CUDA graph gives other bits than the eager pass: then it is not used. The server is idle, so rows
and pages are used without being allocated, and nothing needs to be given back.
"""

import logging
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch

from llm42_sglang.core.pages import page_span
from llm42_sglang.engine import graphs
from llm42_sglang.engine.canonical import CanonicalForward, Slot, same_bits
from llm42_sglang.engine.ranks import Ranks, RanksDisagreeError

logger = logging.getLogger(__name__)

DEPTH = 3  # first pages of each certified request: two boundaries between canonical pages
FAR = 32  # its last page, counted from 1: kernels may split work by the longest context
OWN = DEPTH + 1  # KV pages of each
SEED = 42  # of the random tokens
# What a forward raises that does not suit the model or the device.
CANNOT_RUN = (RuntimeError, AttributeError, IndexError, TypeError)
CANNOT_REPLAY = (*CANNOT_RUN, KeyError, ValueError, AssertionError)


class CertificationError(RuntimeError):
    """The canonical pass is not canonical here; the message names the assumption."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was compared at start-up."""

    passes: int
    rows: int  # rows compared: their logits, and their KV in every layer
    layers: int
    widths: tuple[int, ...]  # slots of the passes that give these bits
    replayed: tuple[int, ...]  # those of them that CUDA graphs give as well
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """Plain JSON types."""
        return asdict(self)


@torch.no_grad()
def certify(forward: CanonicalForward) -> Certificate:
    """Run every comparison; raises CertificationError naming the assumption that failed."""
    started = time.perf_counter()
    try:
        exam = _Exam(forward)
        rows = sum(_compared_by_all(forward.ranks, *each) for each in exam.variations())
        widths = exam.equal_widths()
        replayed = exam.equal_graphs(widths)
        forward.widths, forward.replayed = widths, replayed
        rows += sum(_compared_by_all(forward.ranks, *each) for each in exam.head_variations())
    except (CertificationError, RanksDisagreeError):
        raise
    except CANNOT_RUN as error:
        gone = " (unless another rank has ended: see the log)" if forward.ranks.size > 1 else ""
        raise CertificationError(
            f"this model cannot run a canonical pass ({type(error).__name__}: {error}); "
            f"serve it without llm42{gone}"
        ) from error
    certificate = Certificate(
        passes=exam.passes,
        rows=rows,
        layers=len(forward.layers),
        widths=forward.widths,
        replayed=forward.replayed,
        seconds=round(time.perf_counter() - started, 2),
    )
    logger.info(
        "llm42: certified in %.1f s: A1, A2 and A3 hold bitwise over %d passes, %d rows of logits "
        "and of KV in each of %d layers; passes of %s slots give the same bits, %s",
        certificate.seconds,
        certificate.passes,
        certificate.rows,
        certificate.layers,
        _either(certificate.widths),
        f"from CUDA graphs those of {_either(certificate.replayed)}"
        if certificate.replayed
        else "none from a CUDA graph",
    )
    return certificate


def _either(numbers: tuple[int, ...]) -> str:
    return " or ".join(map(str, numbers))


class _Bits(NamedTuple):
    """What a page's rows came out as."""

    logits: torch.Tensor  # [rows, vocab]
    kv: torch.Tensor  # [layers, 2, rows, heads * head_dim]


class _Exam:
    """A subject, the same tokens at another place (its twin), and neighbours to fill slots."""

    def __init__(self, forward: CanonicalForward):
        self.forward = forward
        self.size = forward.config.page
        self.group = forward.config.group
        self.passes = 0
        runner = forward.runner
        self.random = random.Random(SEED)
        self.vocab_size = runner.model_config.vocab_size
        context = self.forward.req_to_token.shape[1] // self.size
        self.far_page = max(DEPTH, min(FAR, context)) - 1
        self.pages = sorted({*range(DEPTH), self.far_page})
        self.tokens = {page: self._random_tokens(self.size) for page in self.pages}
        self._require_room()
        self.subject, self.twin = 1, 2  # rows; row 0 is SGLang's padding row
        self.neighbours = range(3, 3 + self.group - 1)
        self._place(self.subject, range(1, 1 + OWN))
        # Other pages, and in descending order.
        self._place(self.twin, range(2 * OWN, OWN, -1))
        for i, row in enumerate(self.neighbours, start=2):
            self._place(row, range(1 + i * OWN, 1 + (i + 1) * OWN))

    def variations(self) -> Iterator[tuple[str, list[_Bits], list[_Bits]]]:
        """(assumption and what was varied, reference rows, rows to compare), one by one."""
        self.reference = self._run_all(self.subject)
        yield "A1 (same inputs, run again)", self.reference, self._run_all(self.subject)
        twin = self._run_all(self.twin)
        yield "A2 (other request row and KV pages)", self.reference, twin
        if self.group > 1:
            crowded = self._run_all(self.twin, crowded=True)
            yield "A2 (other slots, beside other requests)", self.reference, crowded
        yield "A2 (several pages in one pass)", self.reference[:DEPTH], self._run_together()
        yield from self._other_tails()

    def _other_tails(self) -> Iterator[tuple[str, list[_Bits], list[_Bits]]]:
        """The rows after the cut: padding, then other tokens."""
        cut, page, of_page = self.size // 2, DEPTH - 1, self.reference[DEPTH - 1]
        head = [_Bits(of_page.logits[:cut], of_page.kv[:, :, :cut])]
        for tail in ((), self._random_tokens(self.size - cut)):
            bits = self._run(self.subject, page, self.tokens[page][:cut] + tail)
            changed = [_Bits(bits.logits[:cut], bits.kv[:, :, :cut])]
            yield "A3 (other rows after it)", head, changed

    def equal_widths(self) -> tuple[int, ...]:
        """G, and the smaller powers of two that give its bits in every variation."""
        widths = [2**i for i in range(self.group.bit_length() - 1)]
        equal = [width for width in widths if self._on_all_ranks(self._equals_reference(width))]
        return (*equal, self.group)

    def equal_graphs(self, widths: tuple[int, ...]) -> tuple[int, ...]:
        """Those widths whose CUDA graph, where SGLang holds one, gives the eager pass's bits."""
        held = [n for n in widths if graphs.captured(self.forward.runner, n * self.size)]
        return tuple(n for n in held if self._on_all_ranks(self._replays_reference(n)))

    def _on_all_ranks(self, equal: bool) -> bool:
        return all(self.forward.ranks.gather(equal))

    def head_variations(self) -> Iterator[tuple[str, list[_Bits], list[_Bits]]]:
        """The language-model head over the subject's slot alone."""
        if self.group > 1:
            alone = self._run_all(self.twin, crowded=True, scored=False)
            yield "A2 (language-model head over one slot)", self.reference, alone

    def _equals_reference(self, width: int) -> bool:
        self._forget()
        self.forward.widths = (width,)
        runs = [(self.reference, self._run_all(self.subject))]
        if width > 1:
            runs.append((self.reference, self._run_all(self.twin, crowded=True)))
        runs += [(expected, actual) for _, expected, actual in self._other_tails()]
        return all(
            same_bits(want, got)
            for run in runs
            for expected, actual in zip(*run, strict=True)
            for want, got in zip(expected, actual, strict=True)
        )

    def _replays_reference(self, width: int) -> bool:
        eager = self.passes - self.forward.replays
        self.forward.replayed = (width,)
        try:
            if not self._equals_reference(width):
                problem = "gives other bits"
            elif eager != self.passes - self.forward.replays:
                problem = "is not replayed at every length certified"
            else:
                return True
        except RanksDisagreeError:
            raise
        except CANNOT_REPLAY as error:
            problem = f"cannot run ({type(error).__name__}: {error})"
            if self.forward.ranks.size > 1:  # the others may be in the middle of it
                raise CertificationError(
                    f"the CUDA graph of {width} slots {problem} on one rank or all; add "
                    "--cuda-graph-backend-prefill disabled"
                ) from error
        logger.warning("llm42: the CUDA graph of %d slots %s; not used", width, problem)
        return False

    def _run_all(self, row: int, **how: bool) -> list[_Bits]:
        """Every page of the request, one a pass, in order."""
        return [self._run(row, page, **how) for page in self.pages]

    def _run(
        self,
        row: int,
        page: int,
        tokens: tuple[int, ...] | None = None,
        *,
        crowded: bool = False,
        scored: bool = True,
    ) -> _Bits:
        """One pass with the page in slot 0; or `crowded`, in slot after slot from the last one on,
        beside neighbours in pages of their own depth, with logits or without (`scored`)."""
        slots = self._company(self.forward.widths[-1] - 1, scored) if crowded else []
        at = len(slots) - self.pages.index(page) % (len(slots) + 1)
        slots.insert(at, Slot(row, page, tokens or self.tokens[page]))
        return self._read(self._pass(slots)[at], row, page)

    def _company(self, count: int, scored: bool) -> list[Slot]:
        pages = [self.pages[-1 - i % len(self.pages)] for i in range(count)]  # the far one first
        return [
            Slot(row, page, self._random_tokens(self.size), scored)
            for row, page in zip(self.neighbours, pages, strict=False)
        ]

    def _run_together(self) -> list[_Bits]:
        """The twin's first pages, as many as fit in one pass."""
        bits = []
        for first in range(0, DEPTH, self.group):
            pages = range(first, min(first + self.group, DEPTH))
            slots = [Slot(self.twin, page, self.tokens[page]) for page in pages]
            rows = zip(self._pass(slots), pages, strict=True)
            bits += [self._read(logits, self.twin, page) for logits, page in rows]
        return bits

    def _pass(self, slots: list[Slot]) -> list[torch.Tensor | None]:
        self.passes += 1
        return self.forward(slots)

    def _read(self, logits: torch.Tensor, row: int, page: int) -> _Bits:
        return _Bits(logits.clone(), self.forward.kv_of(row, page))

    def _place(self, row: int, pages: range) -> None:
        """Name KV pages in the request's row: one for each page that is run, in between the first
        ones again; fresh garbage in them, so nothing old can help."""
        for i in range(self.far_page + 1):
            own = self.pages.index(i) if i in self.pages else i % DEPTH
            where = pages[own] * self.size + self.forward.offsets
            span = page_span(i, self.size)
            self.forward.req_to_token[row, span.start : span.end] = where.to(
                self.forward.req_to_token.dtype
            )

    def _forget(self) -> None:
        """Other KV in all pages of the subject and its twin: what they held cannot help."""
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
                f"certification needs a context of {DEPTH * self.size} tokens, the server's is "
                f"{context}; raise --context-length or lower --llm42-page"
            )
        if not has_room(self.forward, self.group):
            have_pages, have_rows = _room(self.forward)
            raise CertificationError(
                f"certification needs {(self.group + 1) * OWN} KV pages and {self.group + 1} "
                f"request rows, the server has {have_pages} and {have_rows}; raise "
                "--max-total-tokens or --max-running-requests, or lower --llm42-group"
            )


def has_room(forward: CanonicalForward, group: int) -> bool:
    """Whether the server's pools are large enough to certify passes of so many slots."""
    pages, rows = _room(forward)
    return (group + 1) * OWN <= pages and group + 1 <= rows


def _room(forward: CanonicalForward) -> tuple[int, int]:
    """KV pages and request rows of the server."""
    runner = forward.runner
    pages = runner.token_to_kv_pool_allocator.size // forward.config.page
    return pages, runner.req_to_token_pool.size


def _compared_by_all(ranks: Ranks, name: str, expected: list[_Bits], actual: list[_Bits]) -> int:
    """Rows compared; raises on every rank what the first one that has seen a difference raises."""
    rows, problem = 0, None
    try:
        rows = _compare(name, expected, actual)
    except CertificationError as error:
        problem = str(error)
    problems = list(filter(None, ranks.gather(problem)))
    if problems:
        raise CertificationError(problems[0])
    return rows


def _compare(name: str, expected: list[_Bits], actual: list[_Bits]) -> int:
    """Rows compared; raises on the first difference."""
    rows = 0
    for page, (want, got) in enumerate(zip(expected, actual, strict=True)):
        for what, a, b in (("logits", want.logits, got.logits), ("KV", want.kv, got.kv)):
            if not same_bits(a, b):
                raise CertificationError(
                    f"assumption {name} does not hold on this model and backend: the {what} of "
                    f"page {page} differ bitwise; deterministic service cannot start "
                    "(try --attention-backend torch_native or another --dtype; with more than two "
                    "ranks, fewer: an all-reduce may sum in an order that follows the slot)"
                )
        rows += len(want.logits)
    return rows
