"""What canonical passes and decode steps cost on this machine, and the settings that follow.

Measured on the loaded model. The server is idle, as at certification: rows and pages are used
without being allocated. The simulator then serves the same traffic with every setting under these
costs; the simulated server carries no pages in decode steps. No setting changes a bit, but for G,
which is part of the fingerprint: write the chosen flags down rather than tune at every start.
"""

import json
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from sglang.srt.managers.schedule_batch import ScheduleBatch
from sglang.srt.model_executor.forward_batch_info import ForwardBatch, ForwardMode

from llm42_sglang.core.config import Config
from llm42_sglang.core.policy import LanePolicy
from llm42_sglang.engine.canonical import CanonicalForward, Slot
from llm42_sglang.engine.exam import has_room
from llm42_sglang.simulator.measured import Costs, cost_model
from llm42_sglang.simulator.report import simulate
from llm42_sglang.simulator.systems import System
from llm42_sglang.simulator.workload import Workload

logger = logging.getLogger(__name__)

ROUNDS = 3
GROUPS = (1, 2, 4, 8, 16)
PAGES = (0, 20)
ROWS = (1, 4, 16)
CONTEXTS = (64, 512)
REQUESTS = 100  # simulated, of each setting


def tune(forward: CanonicalForward) -> Config:
    """The configuration with the settings that this machine serves most tokens with."""
    config = forward.config
    room = forward.runner.req_to_token_pool.size
    groups = [group for group in GROUPS if has_room(forward, group)] or [GROUPS[0]]
    # Every rank measures, for a pass is one of all of them; the first one's costs decide.
    costs = forward.ranks.gather(measure(forward, groups))[0]
    logger.info("llm42: costs %s", json.dumps(costs))
    settings = [
        replace(config, group=group, wait=wait, run_ahead=min(wait, config.page))
        for group in groups
        for wait in (0, 8, 16, 32)
    ]
    best = max(settings, key=lambda setting: _tokens_per_second(setting, costs, room))
    logger.info(
        "llm42: tuned: --llm42-group %d --llm42-wait %d --llm42-run-ahead %d",
        *(best.group, best.wait, best.run_ahead),
    )
    return best


def measure(forward: CanonicalForward, groups: list[int]) -> Costs:
    """Seconds: "pass" by slots and page index, "decode" by rows and context."""
    context = forward.req_to_token.shape[1]
    pages = [page for page in PAGES if (page + 1) * forward.config.page <= context]
    rows = [rows for rows in ROWS if rows <= forward.runner.req_to_token_pool.size]
    lengths = [length for length in CONTEXTS if length < context]
    passes = {}
    for group in groups:
        forward.widths = (group,)
        passes[str(group)] = {str(page): pass_seconds(forward, group, page) for page in pages}
    decode = {
        str(n): {str(length): decode_seconds(forward, n, length) for length in lengths}
        for n in rows
    }
    return {"pass": passes, "decode": decode}


def _tokens_per_second(config: Config, costs: Costs, room: int) -> float:
    """Simulated, everything deterministic, requests enough to keep a batch full."""
    policy = LanePolicy(config.group, config.wait, config.run_ahead)
    system = System("", config.page, policy, max_running=min(room, max(ROWS)), narrow=True)
    workload = Workload(requests=REQUESTS, prompt_mean=256, output_mean=128)
    return simulate(system, workload, cost_model(config.page, costs)).output_tokens_per_s


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
