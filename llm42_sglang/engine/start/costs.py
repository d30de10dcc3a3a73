"""How long canonical passes and decode steps take on this machine, with the loaded model.

    python -m llm42_sglang.engine.start.costs T REQUESTS FLAGS...

`llm42 bench passes` runs this in one process, without a server. The last line of the output is
JSON. Request rows and KV pages are used without being allocated, as at certification. Passes are
eager, even if SGLang has CUDA graphs.
"""

import json
import sys
from collections.abc import Mapping, Sequence

from sglang.benchmark.one_batch import load_model
from sglang.srt.runtime_context import SpawnRanks, publish
from sglang.srt.server_args import PortArgs

from llm42_sglang.core.config import Config, ConfigError
from llm42_sglang.engine.passes.backends import canonical_mode
from llm42_sglang.engine.passes.canonical import CanonicalForward
from llm42_sglang.engine.passes.shape import Shape, fitting
from llm42_sglang.engine.start import launch
from llm42_sglang.engine.start.exam import room
from llm42_sglang.engine.start.timing import decode_seconds, pass_seconds

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
    have, requests = room(forward)
    lengths = [length for length in CONTEXTS if length < context]
    passes = {}
    for group in (group for group in groups if fitting(group, min(have, requests)) == group):
        shape = Shape((group,))
        passes[str(group)] = {str(page): pass_seconds(forward, shape, page) for page in pages}
    decode = {
        str(n): {str(length): decode_seconds(forward, n, length) for length in lengths}
        for n in dict.fromkeys(rows)
        if n <= requests
    }
    return {"pass": passes, "decode": decode}


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (ConfigError, launch.LaunchError) as error:
        sys.exit(f"llm42: error: {error}")
