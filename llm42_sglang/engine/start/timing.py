"""How long a canonical pass or a decode step takes with the loaded model, on an idle server.

Request rows and KV pages are used without being allocated, as at certification.
"""

import statistics
import time
from collections.abc import Callable

import torch

from llm42_sglang.core.drafts import Costs
from llm42_sglang.engine.passes.canonical import CanonicalForward, DecodeRows, Slot
from llm42_sglang.engine.passes.shape import Shape
from llm42_sglang.engine.start.step_exam import decode_step

ROUNDS = 3  # of which the median is taken
STEPS = (1, 4, 16, 64)  # requests of the decode steps that are measured
CONTEXT = 256  # tokens


def measure_costs(forward: CanonicalForward) -> Costs:
    """Measure what decides about drafts: passes of all certified widths, and some decode steps.

    All ranks do this together. They get what rank 0 has measured, for they must decide alike.
    """
    page = min(CONTEXT, forward.req_to_token.shape[1]) // forward.config.page - 1
    shapes = [Shape((width,), forward.shape.replayed) for width in forward.shape.widths]
    rows = [n for n in STEPS if n == 1 or n <= forward.runner.req_to_token_pool.size]
    costs = Costs(
        {shape.widths[0]: pass_seconds(forward, shape, page) for shape in shapes},
        {n: decode_seconds(forward, n, (page + 1) * forward.config.page) for n in rows},
        (page + 1) * forward.config.page,
    )
    return forward.ranks.gather(costs)[0]


@torch.no_grad()
def pass_seconds(forward: CanonicalForward, shape: Shape, page: int) -> float:
    """Return the median seconds of a pass of this one width, each slot with page number `page`."""
    (width,) = shape.widths
    tokens = tuple(range(100, 100 + forward.config.page))
    _place(forward, range(1, width + 1), page + 1)
    slots = [Slot(row, page, tokens) for row in range(1, width + 1)]
    return _median(lambda: forward.run(slots, shape))


@torch.no_grad()
def decode_seconds(forward: CanonicalForward, rows: int, context: int) -> float:
    """Return the median seconds of a decode step of `rows` requests with `context` tokens each.

    Sampling is not included: it is SGLang's, and the same for every request.
    """
    device = forward.runner.device
    _place(forward, range(1, rows + 1), context // forward.config.page + 1)
    batch = DecodeRows(
        torch.full((rows,), 100, dtype=torch.int64, device=device),
        torch.arange(1, rows + 1, dtype=torch.int64, device=device),
        torch.full((rows,), context, dtype=torch.int64, device=device),
        forward.req_to_token[1 : rows + 1, context - 1].to(torch.int64),
    )
    return _median(lambda: decode_step(forward.runner, batch))


def _place(forward: CanonicalForward, rows: range, pages: int) -> None:
    """Write KV pages into the rows of req_to_token. In a small pool requests share pages."""
    size = forward.config.page
    have = forward.runner.token_to_kv_pool_allocator.size // size
    for row in rows:
        for page in range(min(pages, forward.req_to_token.shape[1] // size)):
            where = (1 + (row * pages + page) % (have - 1)) * size + forward.offsets
            span = slice(page * size, (page + 1) * size)
            forward.req_to_token[row, span] = where.to(forward.req_to_token.dtype)


def _median(run: Callable[[], object]) -> float:
    run()  # warm-up
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
