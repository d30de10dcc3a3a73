"""What canonical passes and decode steps cost on this machine, measured on the loaded model.

The server is idle, as at certification: rows and pages are used without being allocated.
"""

import statistics
import time
from collections.abc import Callable

import torch
from sglang.srt.managers.schedule_batch import ScheduleBatch
from sglang.srt.model_executor.forward_batch_info import ForwardBatch, ForwardMode

from llm42_sglang.engine.canonical import CanonicalForward, Slot

ROUNDS = 5


@torch.no_grad()
def pass_seconds(forward: CanonicalForward, width: int, page: int, scored: bool = True) -> float:
    """Seconds of a pass of `width` slots, each at `page` of its request; the median."""
    tokens = tuple(range(100, 100 + forward.config.page))
    _place(forward, range(1, width + 1), page + 1)
    slots = [Slot(row, page, tokens, scored) for row in range(1, width + 1)]
    return _median(lambda: forward(slots))


@torch.no_grad()
def decode_seconds(forward: CanonicalForward, rows: int, context: int) -> float:
    """Seconds of a decode step of `rows` requests of `context` tokens each; the median.

    Without sampling: that is SGLang's, and the same for every request.
    """
    runner = forward.runner
    _place(forward, range(1, rows + 1), context // forward.config.page + 1)
    requests = torch.arange(1, rows + 1, dtype=torch.int64)
    lengths = torch.full((rows,), context, dtype=torch.int64)
    batch = ScheduleBatch(
        reqs=[],
        forward_mode=ForwardMode.DECODE,
        device=runner.device,
        req_to_token_pool=runner.req_to_token_pool,
        token_to_kv_pool_allocator=runner.token_to_kv_pool_allocator,
        model_config=runner.model_config,
        spec_algorithm=runner.spec_algorithm,
        input_ids=torch.full((rows,), 100, dtype=torch.int64, device=runner.device),  # [rows]
        req_pool_indices=requests.to(runner.device),
        req_pool_indices_cpu=requests,
        seq_lens=lengths.to(runner.device),
        seq_lens_cpu=lengths,
        orig_seq_lens=lengths.to(runner.device, torch.int32),
        seq_lens_sum=int(lengths.sum()),
        out_cache_loc=forward.req_to_token[1 : rows + 1, context - 1].to(torch.int64),
    )

    def step() -> None:
        runner.forward(ForwardBatch.init_new(batch, runner, return_hidden_states_before_norm=False))

    return _median(step)


def _place(forward: CanonicalForward, rows: range, pages: int) -> None:
    """Name KV pages in the requests' rows, the same ones for all if the pool is small."""
    size = forward.config.page
    have = forward.runner.token_to_kv_pool_allocator.size // size
    for row in rows:
        for page in range(pages):
            where = (1 + (row * pages + page) % (have - 1)) * size + forward.offsets
            span = slice(page * size, (page + 1) * size)
            forward.req_to_token[row, span] = where.to(forward.req_to_token.dtype)


def _median(run: Callable[[], object]) -> float:
    run()  # warm-up
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        _wait()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
