"""FlashAttention 3 and 4: one split, so that no heuristic over the whole pass decides.

`num_splits=0` leaves the number of splits of the context to the kernel, which looks at the number
of query tiles of all slots. The rest of a launch follows from T, which every slot has: `tile_m`,
`pack_gqa` and the boundary between masked and unmasked blocks are functions of `max_seqlen_q` and
head sizes. The precomputed `scheduler_metadata` is of decode steps only.
"""

from functools import partial
from typing import Any

from llm42_sglang.engine.passes.backends.mode import Mode, attributes

NUM_SPLITS = 1  # FlashAttentionBackend: "num_splits == 0 delegates SplitKV sizing"


def mode_of(backend: Any) -> Mode:
    """`backend`: SGLang's FlashAttentionBackend. Decode steps keep their own number of splits."""
    return partial(attributes, backend, num_splits=NUM_SPLITS)
