"""Certify a tiny model in this process, on a CPU: with faults in its passes, and with CUDA graphs.

Passes then go through SGLang's own prefill graph runner. Only the graph itself is emulated: instead
of replaying what was captured, it runs the layers over the buffers that a graph would read, and
leaves attention to the batch at hand, as SGLang's `breakable` graphs do. Everything around it is
SGLang's code, and ours.

    python -m tests.engine.certify_tiny MODEL      JSON: certificates, or why there is none, by
                                                   fault of the passes and of the graphs; with the
                                                   kernels of AMX, emulated; and what `bench passes`
                                                   measures
"""

import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from unittest.mock import patch

import torch
import torch.nn.functional as F
from sglang.benchmark.one_batch import load_model
from sglang.srt.layers.logits_processor import LogitsProcessor
from sglang.srt.model_executor.model_runner import ModelRunner
from sglang.srt.model_executor.model_runner_components.cuda_graph_setup import capture_prefill_graph
from sglang.srt.model_executor.runner import prefill_cuda_graph_runner as sglang_graphs
from sglang.srt.model_executor.runner_backend.breakable_cuda_graph_backend import (
    BreakableCudaGraphBackend,
)
from sglang.srt.runtime_context import SpawnRanks, publish
from sglang.srt.server_args import PortArgs, prepare_server_args

from llm42_sglang.core.config import Config
from llm42_sglang.engine.errors import CertificationError
from llm42_sglang.engine.faults import VARIABLE, pass_fault, perturb_odd_steps
from llm42_sglang.engine.passes import canonical
from llm42_sglang.engine.passes.canonical import CanonicalForward, keep_head_rows
from llm42_sglang.engine.start import costs, exam, step_exam
from llm42_sglang.engine.start.certify import certify
from llm42_sglang.engine.start.exam import Exam
from llm42_sglang.platform import gemm, linear, tiles

T, G = 16, 4
PASSES = {  # the fault in canonical passes: their slots
    "none": 4,
    "a1": 2,
    "a1-kv": 1,
    "a2": 4,
    "a3": 1,
    "width": 4,  # allowed: those widths are not used
    "place": 1,
    "together": 4,
    "later": 4,
    "first": 4,
    "head": 4,
    "step": 4,  # allowed: steps of an odd number of rows are not canonical then
}
STEPS_COUNT = ("none", "step")  # the faults with which decode steps are examined; it takes long
FEW = 20_000  # numbers of KV for each size: enough where all of them differ
GRAPHS = ("none", "other-bits", "raises", "other-sizes", "attention", "no-kv")


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
        batch = static_forward_batch
        hidden = type(model).forward(model, batch.input_ids, batch.positions, batch)
        if self.fault == "no-kv":
            for buffer, old in zip(buffers, kept, strict=True):
                buffer[where] = old
        return hidden * 1.01 if self.fault == "other-bits" else hidden


class Whole:
    """Replays as well as the other, but is not of the kind that leaves attention outside."""

    replay, replay_session = Emulated.replay, Emulated.replay_session
    fault = "none"
    __init__ = Emulated.__init__


def place_dependent(logits: torch.Tensor, batch) -> torch.Tensor:
    """Where in the KV pool the rows lie shows in their logits."""
    return logits + batch.out_cache_loc[:, None] * 1e-3


def pages_dependent(logits: torch.Tensor, batch) -> torch.Tensor:
    """Whether several pages of one request are in the pass shows in all logits."""
    rows = batch.req_pool_indices[batch.req_pool_indices > 0]
    return logits + 1e-3 if len(rows.unique()) < len(rows) else logits


def head_dependent(logits: torch.Tensor, batch) -> torch.Tensor:
    """Whether the head leaves rows of the pass out shows in the others' logits."""
    return logits + 1e-3 if len(logits) < len(batch.input_ids) else logits


def later_dependent(logits: torch.Tensor, batch) -> torch.Tensor:
    """Where a pass begins with a first page, the KV after it shows in that page's logits."""
    row, end = batch.req_pool_indices[0], batch.seq_lens[0]
    if row == 0 or end > T:
        return logits
    after = batch.req_to_token_pool.req_to_token[row, end]
    seen = batch.token_to_kv_pool_allocator.get_kvcache().k_buffer[0][after].sum() * 1e-3
    return torch.cat([logits[:T] + seen, logits[T:]])


def first_dependent(logits: torch.Tensor, batch) -> torch.Tensor:
    """Whether all pages of the pass are first ones shows in their logits."""
    return logits if any(batch.prefix_lens) else logits + 1e-3


OWN = {
    "place": place_dependent,
    "together": pages_dependent,
    "later": later_dependent,
    "first": first_dependent,
    "head": head_dependent,
}


def main(model: str) -> None:
    flags = ("--device", "cpu", "--dtype", "float32")
    pool = ("--max-total-tokens", "2000", "--max-running-requests", "8", "--page-size", str(T))
    step_exam.SECONDS = 600.0  # a busy machine leaves no size out
    args = prepare_server_args(["--model-path", model, *flags, *pool])
    args.resolve_once()
    publish(args, role="scheduler", ranks=SpawnRanks(world_rank=0, gpu_id=0))
    runner = load_model(args, PortArgs.init_new(args), 0, 0)[0].torch_runner
    original = LogitsProcessor._get_pruned_states
    LogitsProcessor._get_pruned_states = lambda *args: keep_head_rows(original, *args)
    sglang_graphs.resolve_prefill_backend = Emulated
    sglang_graphs.PrefillCudaGraphRunner.capture = lambda self: None
    said = {
        "passes": {fault: with_fault(runner, fault, group) for fault, group in PASSES.items()},
        "rooms": {
            f"{pages} pages, {fault}": with_room(runner, pages, fault)
            for pages, fault in ((12, "width"), (12, "a2"), (11, "a2"))
        },
        "tiles": {
            "few rows at a time": with_tiles(runner, tiles.few_rows_at_a_time),
            "all rows at once": with_tiles(runner, nullcontext),
        },
        "graphs": {fault: with_graphs(runner, fault) for fault in GRAPHS},
        "costs": costs.measure(CanonicalForward(runner, Config(page=T)), (1, G, 32), (1, 99)),
    }
    print(json.dumps(said))


def with_fault(runner, fault: str, group: int) -> dict:
    """The certificate of passes with this fault, or why they are refused."""
    os.environ[VARIABLE] = "" if fault == "none" or fault in OWN else fault
    broken = OWN.get(fault) or pass_fault()
    equal_widths, forward = Exam.equal_widths, ModelRunner.forward
    if fault == "step":
        ModelRunner.forward = lambda *args, **more: perturb_odd_steps(forward, *args, **more)
    if fault == "head":  # some narrower width must be left for it to show in
        Exam.equal_widths = lambda exam: (1, exam.group)
    try:
        passes = CanonicalForward(runner, Config(page=T, group=group), fault=broken)
        with patch.object(step_exam, "NUMBERS", FEW) if fault == "step" else nullcontext():
            return certify(passes, with_steps=fault in STEPS_COUNT).as_dict()
    except CertificationError as error:
        return {"refused": str(error)}
    finally:
        Exam.equal_widths, ModelRunner.forward = equal_widths, forward


def with_room(runner, pages: int, fault: str) -> dict:
    """As `with_fault`, on a server with so many KV pages and three request rows."""
    with patch.object(exam, "room", lambda forward: (pages, 3)):
        return with_fault(runner, fault, G)


def with_tiles(runner, in_passes: Callable) -> dict:
    """The certificate where linears have the kernels of AMX, and passes run inside `in_passes`."""
    layers = [m for m in runner.model.modules() if hasattr(m, "quant_method")]
    methods = [layer.quant_method for layer in layers]
    for layer in layers:
        is_linear = isinstance(layer.quant_method, linear.MixedPrecisionLinear)
        layer.quant_method = tiles.TiledLinear() if is_linear else tiles.TiledEmbedding()
    passes = CanonicalForward(runner, Config(page=T, group=G))
    with (
        patch.object(tiles.F, "linear", kernels_of_amx),
        patch.object(canonical, "few_rows_at_a_time", in_passes),
        patch.object(step_exam, "NUMBERS", FEW),
    ):
        certificate = certify(passes).as_dict()
    for layer, method in zip(layers, methods, strict=True):
        layer.quant_method = method
    return certificate


def kernels_of_amx(x: torch.Tensor, weight: torch.Tensor, bias=None) -> torch.Tensor:
    """One kernel for up to 32 rows, which sums a row alike in every batch, and another for more."""
    count, middle = len(x), x.shape[-1] // 2
    if count <= 32:  # that of fp32, which one row alone does not have
        return gemm.fp32_linear(F.pad(x, (0, 0, 0, count == 1)), weight, bias)[:count]
    parts = ((x[:, :middle], weight[:, :middle]), (x[:, middle:], weight[:, middle:]))
    first, second = (gemm.fp32_linear(a, b.contiguous()) for a, b in parts)
    return first + second if bias is None else first + second + bias


def with_graphs(runner, fault: str) -> dict:
    """The certificate with graphs that have the fault."""
    Emulated.fault = fault
    rows = [100] if fault == "other-sizes" else [n * T for n in (1, 2, 4)]
    runner.prefill_cuda_graph_runner = graph_runner(runner, rows)
    if fault == "attention":
        runner.prefill_cuda_graph_runner.backend = Whole(runner.prefill_cuda_graph_runner)
    return certify(CanonicalForward(runner, Config(page=T, group=G)), with_steps=False).as_dict()


def graph_runner(runner, rows: list[int]) -> sglang_graphs.PrefillCudaGraphRunner:
    """SGLang's own, with nothing captured."""
    config = sglang_graphs.get_exec().graph.cuda_graph_config.prefill
    config.bs, config.backend = rows, "breakable"
    return capture_prefill_graph(model_runner=runner, eager_runner=runner.eager_runner).runner


if __name__ == "__main__":
    with torch.no_grad():
        main(*sys.argv[1:])
