"""Certify a tiny model whose passes go through SGLang's own prefill graph runner, on a CPU.

Only the graph itself is emulated: instead of replaying what was captured, it runs the layers over
the buffers that a graph would read, and leaves attention to the batch at hand, as SGLang's
`breakable` graphs do. Everything around it is SGLang's code, and ours.

    python -m tests.engine.emulated_graphs MODEL      prints a certificate by fault, JSON
"""

import json
import sys

import torch
from sglang.benchmark.one_batch import load_model
from sglang.srt.layers.logits_processor import LogitsProcessor
from sglang.srt.model_executor.model_runner_components.cuda_graph_setup import capture_prefill_graph
from sglang.srt.model_executor.runner import prefill_cuda_graph_runner as sglang_graphs
from sglang.srt.model_executor.runner_backend.breakable_cuda_graph_backend import (
    BreakableCudaGraphBackend,
)
from sglang.srt.runtime_context import SpawnRanks, publish
from sglang.srt.server_args import PortArgs, prepare_server_args

from llm42_sglang.core.config import Config
from llm42_sglang.engine.canonical import CanonicalForward, keep_head_rows
from llm42_sglang.engine.certify import certify

T, G = 16, 4
FAULTS = {
    "none": "",
    "other-bits": "graphs differ from eager passes",
    "raises": "they cannot run",
    "other-sizes": "none has as many rows as a pass",
    "attention": "they hold attention as well",
    "no-kv": "they leave the KV of a request's first page as it was",
}


class Emulated(BreakableCudaGraphBackend):
    """Its `replay` runs the layers eagerly."""

    fault = "none"

    def __init__(self, graphs):
        self.graphs = graphs

    def replay(self, shape_key, static_forward_batch, **kwargs):
        assert shape_key.size == len(static_forward_batch.input_ids)
        if self.fault == "raises":
            raise RuntimeError("no such kernel")
        model, pool = self.graphs.layer_model, self.graphs.model_runner.token_to_kv_pool
        where = static_forward_batch.out_cache_loc[static_forward_batch.positions < T]
        buffers = [*pool.k_buffer, *pool.v_buffer]
        kept = [buffer[where] for buffer in buffers]
        hidden = type(model).forward(
            model,
            static_forward_batch.input_ids,
            static_forward_batch.positions,
            static_forward_batch,
        )
        if self.fault == "no-kv":
            for buffer, old in zip(buffers, kept, strict=True):
                buffer[where] = old
        return hidden * 1.01 if self.fault == "other-bits" else hidden


class Whole:
    """Replays as well as the other, but is not of the kind that leaves attention outside."""

    replay, replay_session = Emulated.replay, Emulated.replay_session
    fault = "none"

    def __init__(self, graphs):
        self.graphs = graphs


def main(model: str) -> None:
    flags = ("--device", "cpu", "--attention-backend", "torch_native", "--dtype", "float32")
    pool = ("--max-total-tokens", "2000", "--max-running-requests", "8", "--page-size", str(T))
    args = prepare_server_args(["--model-path", model, *flags, *pool])
    args.resolve_once()
    publish(args, role="scheduler", ranks=SpawnRanks(world_rank=0, gpu_id=0))
    runner = load_model(args, PortArgs.init_new(args), 0, 0)[0].torch_runner
    original = LogitsProcessor._get_pruned_states
    LogitsProcessor._get_pruned_states = lambda *args: keep_head_rows(original, *args)
    sglang_graphs.resolve_prefill_backend = Emulated
    sglang_graphs.PrefillCudaGraphRunner.capture = lambda self: None
    print(json.dumps({fault: certified(runner, fault) for fault in FAULTS}))


def certified(runner, fault: str) -> dict:
    """The certificate with graphs that have the fault."""
    Emulated.fault = fault
    rows = [100] if fault == "other-sizes" else [n * T for n in (1, 2, 4)]
    runner.prefill_cuda_graph_runner = graph_runner(runner, rows)
    if fault == "attention":
        runner.prefill_cuda_graph_runner.backend = Whole(runner.prefill_cuda_graph_runner)
    return certify(CanonicalForward(runner, Config(page=T, group=G, run_ahead=0))).as_dict()


def graph_runner(runner, rows: list[int]) -> sglang_graphs.PrefillCudaGraphRunner:
    """SGLang's own, with nothing captured."""
    config = sglang_graphs.get_exec().graph.cuda_graph_config.prefill
    config.bs, config.backend = rows, "breakable"
    return capture_prefill_graph(model_runner=runner, eager_runner=runner.eager_runner).runner


if __name__ == "__main__":
    with torch.no_grad():
        main(*sys.argv[1:])
