"""Canonical passes from the CUDA graphs that SGLang captures for its prefills.

SGLang's `breakable` graphs are its default on NVIDIA. They hold what a forward does to a fixed
number of rows: GEMMs, norms, all-reduce. Attention, its plan and the language-model head run
eagerly, between and after them, so the backend's canonical mode applies. In SGLang these are
`RadixAttention._eager_attention`, and `_execute_body_capture` and
`_prepare_forward_metadata_for_replay` of PrefillCudaGraphRunner.

A pass of one width always has the same number of rows. If SGLang has captured a graph of just that
many rows, it fits without padding. Which sizes are captured is set by `--cuda-graph-bs-prefill`; by
default 32, and every multiple of 64 up to 1024 or the chunk size.

Graphs of other kinds also hold attention or the head, and were captured outside of any mode. They
are not used. Certification compares passes from graphs with eager ones. If a bit differs, passes of
that width stay eager.
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
    """Whether SGLang has a graph of so many rows without attention in it."""
    graphs = runner.prefill_cuda_graph_runner
    return (
        isinstance(graphs, PrefillCudaGraphRunner)  # without graphs it is an EagerRunner, or None
        and isinstance(graphs.backend, BreakableCudaGraphBackend)
        and not graphs.use_captured_attn_metadata
        and rows in graphs.capture_num_tokens
    )


@contextmanager
def replayed(runner: ModelRunner) -> Iterator[None]:
    """While active, a forward may come from a graph, and its logits get memory of their own.

    SGLang's runners share a buffer (`PrefillCudaGraphRunner._next_token_logits_buffer`). It has one
    row for each request, which is too few, and decode steps use it.
    """
    with attributes(runner, graph_shared_output=None):
        yield


@contextmanager
def eager(runner: ModelRunner) -> Iterator[None]:
    """While active, no prefill comes from a graph (`ModelRunner._forward_raw`)."""
    with attributes(runner, prefill_cuda_graph_runner=None):
        yield
