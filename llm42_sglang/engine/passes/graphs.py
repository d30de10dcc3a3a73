"""Canonical passes replayed from the CUDA graphs that SGLang captures for its prefills.

SGLang's `breakable` graphs, its default on NVIDIA, hold what a forward does to a fixed number of
rows: GEMMs, norms, all-reduce. Attention, its plan and the language-model head run eagerly between
and after them (`RadixAttention._eager_attention`, `PrefillCudaGraphRunner._execute_body_capture`
and its `_prepare_forward_metadata_for_replay`), so they see the backend's canonical mode. A pass
always has the same number of rows, and if SGLang has captured just that many
(`--cuda-graph-bs-prefill`; by default 32, and every multiple of 64 up to 1024 or the chunk size),
its graph fits without padding. Graphs of other kinds hold attention or the head as well, captured
outside of any mode: they are not used.

Certification compares replayed passes with eager ones; where a bit differs, passes stay eager.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sglang.srt.model_executor.model_runner import ModelRunner
from sglang.srt.model_executor.runner.prefill_cuda_graph_runner import PrefillCudaGraphRunner
from sglang.srt.model_executor.runner_backend.breakable_cuda_graph_backend import (
    BreakableCudaGraphBackend,
)

from llm42_sglang.engine.passes.backends.mode import attributes


def captured(runner: ModelRunner, rows: int) -> bool:
    """Whether SGLang holds a graph of so many rows that leaves attention outside."""
    graphs = runner.prefill_cuda_graph_runner
    return (
        isinstance(graphs, PrefillCudaGraphRunner)  # where there are none: an EagerRunner, or None
        and isinstance(graphs.backend, BreakableCudaGraphBackend)
        and not graphs.use_captured_attn_metadata
        and rows in graphs.capture_num_tokens
    )


@contextmanager
def replayed(runner: ModelRunner) -> Iterator[None]:
    """While active, a forward may come from a graph; its logits get memory of their own.

    The buffer that SGLang's runners share (`PrefillCudaGraphRunner._next_token_logits_buffer`) has
    a row a request, and is the fast path's.
    """
    with attributes(runner, graph_shared_output=None):
        yield


@contextmanager
def eager(runner: ModelRunner) -> Iterator[None]:
    """While active, no prefill comes from a graph (`ModelRunner._forward_raw`)."""
    with attributes(runner, prefill_cuda_graph_runner=None):
        yield
