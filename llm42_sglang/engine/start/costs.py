"""How long canonical passes and decode steps take on this machine, with the loaded model.

    python -m llm42_sglang.engine.start.costs T REQUESTS FLAGS...

`llm42 bench passes` runs this in one process, without a server. The last line of the output is
JSON. Request rows and KV pages are used without being allocated, as at certification. Passes are
eager, even if SGLang has CUDA graphs.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from sglang.benchmark.one_batch import load_model
from sglang.srt.runtime_context import SpawnRanks, publish
from sglang.srt.server_args import PortArgs

from llm42_sglang.core.config import Config, ConfigError
from llm42_sglang.engine.passes.backends import canonical_mode
from llm42_sglang.engine.passes.canonical import CanonicalForward, DecodeRows, Slot
from llm42_sglang.engine.passes.shape import Shape
from llm42_sglang.engine.start import launch
from llm42_sglang.engine.start.exam import has_room
from llm42_sglang.engine.start.step_exam import decode_step

ROUNDS = 3  # of which the median is taken
GROUPS = (1, 2, 4, 8, 16)  # slots of a pass
PAGES = (0, 20)  # the page in each slot, by its index
ROWS = (1, 4)  # requests of a decode step, beside the number that the caller names
CONTEXTS = (64, 512)  # tokens

# Seconds: "pass" by slots and page index, "decode" by requests and context. All keys are text.
Costs = Mapping[str, Mapping[str, Mapping[str, float]]]


def main(page: str, requests: str, *flags: str) -> None:
    """Load the model as a server with these flags would, measure, and print the result as JSON.

    Raises ConfigError or LaunchError for flags that cannot be served or measured.
    """
    config = Config(page=int(page), wait=0)
    args = launch.prepare(config, [*flags])
    if args.tp_size * args.dp_size * args.pp_size > 1:
        raise ConfigError("passes are measured on one rank; leave out --tp-size and the like")
    publish(args, role="scheduler", ranks=SpawnRanks(world_rank=0, gpu_id=0))
    runner = load_model(args, PortArgs.init_new(args), 0, 0)[0].torch_runner
    forward = CanonicalForward(runner, config, mode=canonical_mode(runner))
    print(json.dumps(measure(forward, GROUPS, (*ROWS, int(requests)))))


def measure(forward: CanonicalForward, groups: Sequence[int], rows: Sequence[int]) -> Costs:
    """Measure every combination for which the server's pools have room."""
    context = forward.req_to_token.shape[1]
    pages = [page for page in PAGES if (page + 1) * forward.config.page <= context]
    lengths = [length for length in CONTEXTS if length < context]
    passes = {}
    for group in (group for group in groups if has_room(forward, group)):
        passes[str(group)] = {str(page): pass_seconds(forward, group, page) for page in pages}
    decode = {
        str(n): {str(length): decode_seconds(forward, n, length) for length in lengths}
        for n in dict.fromkeys(rows)
        if n <= forward.runner.req_to_token_pool.size
    }
    return {"pass": passes, "decode": decode}


@torch.no_grad()
def pass_seconds(forward: CanonicalForward, width: int, page: int) -> float:
    """Return the median seconds of a pass of `width` slots, each with page number `page`."""
    tokens = tuple(range(100, 100 + forward.config.page))
    _place(forward, range(1, width + 1), page + 1)
    slots = [Slot(row, page, tokens) for row in range(1, width + 1)]
    return _median(lambda: forward.run(slots, Shape((width,))))


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
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (ConfigError, launch.LaunchError) as error:
        sys.exit(f"llm42: error: {error}")
