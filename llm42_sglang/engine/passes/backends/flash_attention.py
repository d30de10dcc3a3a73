"""FlashAttention 3 and 4: passes do not split the context, whatever else is in them.

With `num_splits=0` the kernel chooses the number of splits itself, by the number of query tiles of
all slots. So a pass sets `num_splits=1`. Everything else of a launch follows from T, which is the
same for every slot: `tile_m`, `pack_gqa` and the boundary between masked and unmasked blocks are
functions of `max_seqlen_q` and head sizes. The precomputed `scheduler_metadata` is for decode steps
only.
"""

from functools import partial
from typing import Any

from llm42_sglang.engine.passes.backends.mode import Mode, attributes

NUM_SPLITS = 1  # FlashAttentionBackend: "num_splits == 0 delegates SplitKV sizing"


def mode_of(backend: Any) -> Mode:
    """Return the mode of SGLang's FlashAttentionBackend. Decode steps are split as before."""
    return partial(attributes, backend, num_splits=NUM_SPLITS)
