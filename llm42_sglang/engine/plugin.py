"""Entry point of `sglang.srt.plugins`: runs in every SGLang process, before it does anything.

SGLang's loader logs exceptions and goes on without the plugin. A deterministic server must not, so
every failure here leaves the process instead.
"""

import sys

from sglang.srt.sampling import sampling_params

from llm42_sglang.core.config import ConfigError
from llm42_sglang.engine import faults, hooks, scheduler, settings
from llm42_sglang.engine.errors import EngineError
from llm42_sglang.engine.front import (
    dead_ends,
    followers,
    gatekeeper,
    keys,
    namesakes,
    native,
    openai_api,
    parsers,
    pauses,
    replicas,
    stream,
    texts,
)
from llm42_sglang.engine.front import updates as front_updates
from llm42_sglang.engine.loop import (
    drawable,
    fastpath,
    profiling,
    results,
    stop_regex,
)
from llm42_sglang.engine.passes import canonical
from llm42_sglang.engine.seam import each_once
from llm42_sglang.engine.seams import signatures, table
from llm42_sglang.engine.seams.check import check
from llm42_sglang.engine.weights import checkpoint, updates

# Whose hooks each process registers. Tokenizer and HTTP: without a configuration too, where they
# refuse deterministic requests.
FRONT = (
    gatekeeper,
    native,
    openai_api,
    front_updates,
    dead_ends,
    stream,
    texts,
    parsers,
    namesakes,
    pauses,
    keys,
    followers,
)
CONTROLLER = (replicas,)  # between front and schedulers, with data parallelism
SCHEDULER = (scheduler, results, canonical, fastpath, drawable, profiling, updates, checkpoint)
# Every symbol of SGLang's that this version relies on and can import.
SEAMS = each_once((*hooks.seams_in(*FRONT, *CONTROLLER, *SCHEDULER, faults), *table.RELIED_UPON))

gate: gatekeeper.Gatekeeper  # this process's, once the plugin is active


def activate() -> None:
    """Check every seam, then register the hooks. Raises SystemExit when anything is amiss."""
    global gate
    try:
        config = settings.load()
        check(SEAMS, signatures.read())
        _claim_field()
        gate = gatekeeper.Gatekeeper(config)
        doors = (gate, openai_api.OpenAIHooks(gate), front_updates.UpdateHooks(gate))
        hooks.register(*FRONT, methods_of=doors, serving=config is not None)
        if config is not None:
            hooks.register(*CONTROLLER)
            if not faults.active("no-scheduler"):
                _register_scheduler()
    except (ConfigError, EngineError) as error:
        sys.exit(f"llm42: {error}")


def _claim_field() -> None:
    """With patches/01: SGLang refuses the native `deterministic` field if nobody claims it."""
    if hasattr(sampling_params, "DETERMINISM_PROVIDER"):
        sampling_params.DETERMINISM_PROVIDER = "llm42"


def _register_scheduler() -> None:
    stop_regex.match_in_linear_time()
    hooks.register(*SCHEDULER)
    # Last, so that these are outermost: every row is perturbed.
    idle = {hook.__name__ for name, hook in faults.HOOKS.items() if not faults.active(name)}
    hooks.register(faults, but=idle)
