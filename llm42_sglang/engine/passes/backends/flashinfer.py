"""FlashInfer: the paged prefill wrapper alone, its context not split.

SGLang's extend merges two kernels, a ragged one over the new tokens and a paged one over the
prefix, and lets FlashInfer split the context by a search over all requests of the batch. A
canonical pass takes the paged kernel only, over wrappers of its own whose plan disables splitting.
A fixed split size would not do: if one slot has more than one chunk, all of them go through the
merge kernel (`PrefillSplitQOKVIndptr` in FlashInfer's scheduler.cuh), and a neighbour shows.

The plan is made once per pass, not once per shape: it holds the slots' page tables. With T rows in
every slot its tile size follows from T and the head sizes.
"""

from functools import partial
from typing import Any

import torch

from llm42_sglang.engine.errors import UnsupportedError
from llm42_sglang.engine.passes.backends.mode import Mode, attributes

WORKSPACE_BYTES = 128 * 2**20  # FlashInfer's documentation recommends 128 MiB


def mode_of(backend: Any) -> Mode:
    """Return the mode of SGLang's FlashInferAttnBackend. Raises UnsupportedError for a subclass."""
    if type(backend).__name__ != "FlashInferAttnBackend" or backend.num_wrappers != 1:
        raise UnsupportedError(
            f"{type(backend).__name__} with {backend.num_wrappers} wrappers has no canonical "
            "mode; use plain flashinfer attention without sliding windows"
        )
    return partial(
        attributes,
        backend,
        prefill_wrappers_paged=[_wrapper(backend)],
        use_paged=True,  # no ragged kernel
        prefill_split_tile_size=None,  # has no meaning with disable_split_kv
        forward_metadata=None,  # the pass makes its own, which goes after it
    )


def _wrapper(backend: Any) -> Any:
    """Return a wrapper like SGLang's own, but without split-KV in any plan."""
    # Imported here, because a server without a GPU does not need it.
    from flashinfer import BatchPrefillWithPagedKVCacheWrapper

    workspace = torch.empty(
        WORKSPACE_BYTES, dtype=torch.uint8, device=backend.workspace_buffer.device
    )
    wrapper = BatchPrefillWithPagedKVCacheWrapper(workspace, "NHD", backend=backend.prefill_backend)
    # SGLang plans by this name, see FlashInferIndicesUpdaterPrefill.call_begin_forward.
    wrapper.begin_forward = partial(wrapper.begin_forward, disable_split_kv=True)
    return wrapper
