"""Start-up certification: A1-A3 are measured on the loaded model, not believed.

    A1  same inputs, same bits
    A2  a slot depends on its own tokens and its request's earlier pages, not on its index, its
        neighbours, the number of pages in one pass, or where in the KV pool the pages lie
    A3  a row depends on no row after it

A request of random tokens, several pages deep, is run one page per pass in slot 0: the reference.
Every variation must reproduce its logits and the KV of every layer, bit for bit. The server is
idle, so rows and pages are used without being allocated, and nothing needs to be given back.
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
SEED = 42  # of the random tokens


class CertificationError(RuntimeError):
    """The canonical pass is not canonical here; the message names the assumption."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was compared at start-up."""

    passes: int
    rows: int  # rows compared: their logits, and their KV in every layer
    layers: int
    seconds: float

    def as_dict(self) -> dict[str, int | float]:
        """Plain JSON types."""
        return asdict(self)


@torch.no_grad()
def certify(forward: CanonicalForward) -> Certificate:
    """Run every comparison; raises CertificationError naming the assumption that failed."""
    started = time.perf_counter()
    try:
        exam = _Exam(forward)
        rows = sum(_compare(*variation) for variation in exam.variations())
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
        seconds=round(time.perf_counter() - started, 2),
    )
    logger.info(
        "llm42: certified in %.1f s: A1, A2 and A3 hold bitwise over %d passes, %d rows of logits "
        "and of KV in each of %d layers",
        certificate.seconds,
        certificate.passes,
        certificate.rows,
        certificate.layers,
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
        self._place(self.subject, range(1, 1 + DEPTH))
        # Other pages, and in descending order.
        self._place(self.twin, range(2 * DEPTH, DEPTH, -1))
        for i, row in enumerate(self.neighbours, start=2):
            self._place(row, range(1 + i * DEPTH, 1 + (i + 1) * DEPTH))

    def variations(self) -> Iterator[tuple[str, list[_Bits], list[_Bits]]]:
        """(assumption and what was varied, reference rows, rows to compare), one by one."""
        reference = [self._run(self.subject, page) for page in range(DEPTH)]
        again = [self._run(self.subject, page) for page in range(DEPTH)]
        yield "A1 (same inputs, run again)", reference, again
        twin = [self._run(self.twin, page) for page in range(DEPTH)]
        yield "A2 (other request row and KV pages)", reference, twin
        yield "A2 (several pages in one pass)", reference, self._run_together()
        if self.group > 1:
            crowded = [self._run(self.twin, page, crowded=True) for page in range(DEPTH)]
            yield "A2 (last slot, beside other requests)", reference, crowded
        # The rows after the cut: padding, then other tokens.
        cut = self.size // 2
        head = [_Bits(reference[-1].logits[:cut], reference[-1].kv[:, :, :cut])]
        for tail in ((), self._random_tokens(self.size - cut)):
            bits = self._run(self.subject, DEPTH - 1, self._page_tokens(DEPTH - 1)[:cut] + tail)
            changed = [_Bits(bits.logits[:cut], bits.kv[:, :, :cut])]
            yield "A3 (other rows after it)", head, changed

    def _run(
        self, row: int, page: int, tokens: tuple[int, ...] | None = None, crowded: bool = False
    ) -> _Bits:
        """One pass with the page in slot 0, or in the last slot beside neighbours."""
        slot = Slot(row, page, tokens or self._page_tokens(page))
        others = [Slot(n, page, self._random_tokens(self.size)) for n in self.neighbours]
        slots = [*others, slot] if crowded else [slot]
        return self._read(self._pass(slots), len(slots) - 1, row, page)

    def _run_together(self) -> list[_Bits]:
        """The twin's pages, as many as fit in one pass."""
        bits = []
        for first in range(0, DEPTH, self.group):
            pages = range(first, min(first + self.group, DEPTH))
            logits = self._pass([Slot(self.twin, page, self._page_tokens(page)) for page in pages])
            bits += [self._read(logits, i, self.twin, page) for i, page in enumerate(pages)]
        return bits

    def _pass(self, slots: list[Slot]) -> torch.Tensor:
        self.passes += 1
        return self.forward(slots)

    def _read(self, logits: torch.Tensor, slot: int, row: int, page: int) -> _Bits:
        span = page_span(page, self.size)
        where = self.forward.req_to_token[row, span.start : span.end].long()
        kv = [
            torch.stack([buffer[where].flatten(1) for buffer in self._buffers(layer)])
            for layer in self.layers
        ]
        start = slot * self.size
        return _Bits(logits[start : start + self.size].clone(), torch.stack(kv))

    def _buffers(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.pool.get_key_buffer(layer), self.pool.get_value_buffer(layer)

    def _place(self, row: int, pages: range) -> None:
        """Name KV pages in the request's row; fresh garbage in them, so nothing old can help."""
        for i, page in enumerate(pages):
            where = page * self.size + self.forward.offsets
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
