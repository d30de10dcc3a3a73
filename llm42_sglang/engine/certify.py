"""Start-up certification: A1-A3 are measured on the loaded model, not believed.

    A1  same inputs, same bits
    A2  a slot depends on its own tokens and its request's earlier pages, not on its index, its
        neighbours, the number of pages in one pass, or where in the KV pool the pages lie
    A3  a row depends on no row after it

A request of random tokens, several pages deep, is run one page per pass in slot 0: the reference.
Every variation must reproduce its logits and the KV of every layer, bit for bit. Narrower passes
that reproduce them too may be run; others are left out, which is no failure. The server is idle,
so rows and pages are used without being allocated, and nothing needs to be given back.
"""

import logging
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch

from llm42_sglang.core.pages import page_span
from llm42_sglang.engine.canonical import CanonicalForward, Slot

logger = logging.getLogger(__name__)

DEPTH = 3  # pages of each certified request: two boundaries between canonical pages
FAR = 32  # pages of the longest neighbour: kernels may split work by the longest context
SEED = 42  # of the random tokens


class CertificationError(RuntimeError):
    """The canonical pass is not canonical here; the message names the assumption."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was compared at start-up."""

    passes: int
    rows: int  # rows compared: their logits, and their KV in every layer
    layers: int
    widths: tuple[int, ...]  # slots of the passes that give these bits
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
        rows = sum(_compare(*variation) for variation in exam.variations())
        forward.widths = exam.equal_widths()
        rows += sum(_compare(*variation) for variation in exam.head_variations())
    except (RuntimeError, AttributeError, IndexError, TypeError) as error:
        if isinstance(error, CertificationError):
            raise
        raise CertificationError(
            f"this model cannot run a canonical pass ({type(error).__name__}: {error}); "
            "serve it without llm42"
        ) from error
    certificate = Certificate(
        passes=exam.passes,
        rows=rows,
        layers=len(exam.layers),
        widths=forward.widths,
        seconds=round(time.perf_counter() - started, 2),
    )
    logger.info(
        "llm42: certified in %.1f s: A1, A2 and A3 hold bitwise over %d passes, %d rows of logits "
        "and of KV in each of %d layers; passes of %s slots give the same bits",
        certificate.seconds,
        certificate.passes,
        certificate.rows,
        certificate.layers,
        " or ".join(map(str, certificate.widths)),
    )
    return certificate


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
        self.pool = runner.token_to_kv_pool
        self.layers = range(self.pool.start_layer, self.pool.start_layer + self.pool.layer_num)
        self.random = random.Random(SEED)
        self.vocab_size = runner.model_config.vocab_size
        self.tokens = self._random_tokens(DEPTH * self.size)
        self._require_room(runner)
        self.subject, self.twin = 1, 2  # rows; row 0 is SGLang's padding row
        self.neighbours = range(3, 3 + self.group - 1)
        self.far_page = min(FAR, self.forward.req_to_token.shape[1] // self.size) - 1
        self._place(self.subject, range(1, 1 + DEPTH))
        # Other pages, and in descending order.
        self._place(self.twin, range(2 * DEPTH, DEPTH, -1))
        for i, row in enumerate(self.neighbours, start=2):
            self._place(row, range(1 + i * DEPTH, 1 + (i + 1) * DEPTH))

    def variations(self) -> Iterator[tuple[str, list[_Bits], list[_Bits]]]:
        """(assumption and what was varied, reference rows, rows to compare), one by one."""
        self.reference = reference = [self._run(self.subject, page) for page in range(DEPTH)]
        again = [self._run(self.subject, page) for page in range(DEPTH)]
        yield "A1 (same inputs, run again)", reference, again
        twin = [self._run(self.twin, page) for page in range(DEPTH)]
        yield "A2 (other request row and KV pages)", reference, twin
        yield "A2 (several pages in one pass)", reference, self._run_together()
        if self.group > 1:
            crowded = [self._run(self.twin, page, crowded=True) for page in range(DEPTH)]
            yield "A2 (last slot, beside other requests)", reference, crowded
            crowded = [self._run(self.twin, page, crowded=True, far=True) for page in range(DEPTH)]
            yield "A2 (beside a request of many pages)", reference, crowded
        # The rows after the cut: padding, then other tokens.
        cut = self.size // 2
        head = [_Bits(reference[-1].logits[:cut], reference[-1].kv[:, :, :cut])]
        for tail in ((), self._random_tokens(self.size - cut)):
            bits = self._run(self.subject, DEPTH - 1, self._page_tokens(DEPTH - 1)[:cut] + tail)
            changed = [_Bits(bits.logits[:cut], bits.kv[:, :, :cut])]
            yield "A3 (other rows after it)", head, changed

    def equal_widths(self) -> tuple[int, ...]:
        """G, and the smaller powers of two that give its bits, alone and in company."""
        widths = [2**i for i in range(self.group.bit_length() - 1)]
        equal = [width for width in widths if self._equals_reference(width)]
        return (*equal, self.group)

    def head_variations(self) -> Iterator[tuple[str, list[_Bits], list[_Bits]]]:
        """The language-model head over the last slot alone, or over none: the KV stays."""
        if self.group == 1:
            return
        alone = [self._run(self.twin, p, crowded=True, scored=False) for p in range(DEPTH)]
        yield "A2 (language-model head over one slot)", self.reference, alone

    def _equals_reference(self, width: int) -> bool:
        self.forward.widths = (width,)
        runs = [[self._run(self.subject, page) for page in range(DEPTH)]]
        if width > 1:
            runs.append([self._run(self.twin, page, crowded=True) for page in range(DEPTH)])
        return all(
            _same_bits(want, got)
            for run in runs
            for expected, actual in zip(self.reference, run, strict=True)
            for want, got in zip(expected, actual, strict=True)
        )

    def _run(
        self,
        row: int,
        page: int,
        tokens: tuple[int, ...] | None = None,
        *,
        crowded: bool = False,
        far: bool = False,
        scored: bool = True,
    ) -> _Bits:
        """One pass with the page in slot 0; or `crowded`, in the last slot beside neighbours, of
        which one may be `far` into its context, and which may go without logits (`scored`)."""
        slot = Slot(row, page, tokens or self._page_tokens(page))
        slots = [slot]
        if crowded:
            pages = [page] * (self.forward.widths[-1] - 1)
            pages[0] = self.far_page if far else page
            company = zip(self.neighbours, pages, strict=False)
            slots = [Slot(n, p, self._random_tokens(self.size), scored) for n, p in company] + slots
        return self._read(self._pass(slots)[-1], row, page)

    def _run_together(self) -> list[_Bits]:
        """The twin's pages, as many as fit in one pass."""
        bits = []
        for first in range(0, DEPTH, self.group):
            pages = range(first, min(first + self.group, DEPTH))
            slots = [Slot(self.twin, page, self._page_tokens(page)) for page in pages]
            rows = zip(self._pass(slots), pages, strict=True)
            bits += [self._read(logits, self.twin, page) for logits, page in rows]
        return bits

    def _pass(self, slots: list[Slot]) -> list[torch.Tensor | None]:
        self.passes += 1
        return self.forward(slots)

    def _read(self, logits: torch.Tensor, row: int, page: int) -> _Bits:
        span = page_span(page, self.size)
        where = self.forward.req_to_token[row, span.start : span.end].long()
        kv = [
            torch.stack([buffer[where].flatten(1) for buffer in self._buffers(layer)])
            for layer in self.layers
        ]
        return _Bits(logits.clone(), torch.stack(kv))

    def _buffers(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.pool.get_key_buffer(layer), self.pool.get_value_buffer(layer)

    def _place(self, row: int, pages: range) -> None:
        """Name KV pages in the request's row, over and over; fresh garbage in them, so nothing old
        can help."""
        for i in range(max(DEPTH, self.far_page + 1)):
            where = pages[i % DEPTH] * self.size + self.forward.offsets
            span = page_span(i, self.size)
            self.forward.req_to_token[row, span.start : span.end] = where.to(
                self.forward.req_to_token.dtype
            )

    def _page_tokens(self, page: int) -> tuple[int, ...]:
        span = page_span(page, self.size)
        return self.tokens[span.start : span.end]

    def _random_tokens(self, count: int) -> tuple[int, ...]:
        return tuple(self.random.randrange(self.vocab_size) for _ in range(count))

    def _require_room(self, runner) -> None:
        pages = (self.group + 1) * DEPTH
        rows = self.group + 1
        have_pages = runner.token_to_kv_pool_allocator.size // self.size
        have_rows = runner.req_to_token_pool.size
        context = self.forward.req_to_token.shape[1]
        if DEPTH * self.size > context:
            raise CertificationError(
                f"certification needs a context of {DEPTH * self.size} tokens, the server's is "
                f"{context}; raise --context-length or lower --llm42-page"
            )
        if pages > have_pages or rows > have_rows:
            raise CertificationError(
                f"certification needs {pages} KV pages and {rows} request rows, the server has "
                f"{have_pages} and {have_rows}; raise --max-total-tokens or "
                "--max-running-requests, or lower --llm42-group"
            )


def _compare(name: str, expected: list[_Bits], actual: list[_Bits]) -> int:
    """Rows compared; raises on the first difference."""
    rows = 0
    for page, (want, got) in enumerate(zip(expected, actual, strict=True)):
        for what, a, b in (("logits", want.logits, got.logits), ("KV", want.kv, got.kv)):
            if not _same_bits(a, b):
                raise CertificationError(
                    f"assumption {name} does not hold on this model and backend: the {what} of "
                    f"page {page} differ bitwise; deterministic service cannot start "
                    "(try --attention-backend torch_native or another --dtype)"
                )
        rows += len(want.logits)
    return rows


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))
