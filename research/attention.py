"""The attention backend `llm42_cpu` against SGLang's torch_native, without a model.

    scripts/run python research/attention.py [--repeats 15] [--page 32] [--out FILE]

The layers are those of SmolLM2-135M, with random weights and the platform's fp32 linears. Every
round times every case once, in turn. A ratio is the median of the ratios of all rounds:

- a canonical pass of G slots, all on page 20, over one with all on page 0: attention and linears;
- a decode step of 8 requests, all at 500 tokens or at mixed lengths: ours over torch_native's.

Norms, rotary embedding and activation are left out. They would pull ratios of layers towards 1. The
last line is JSON: ms of a layer, and the ratios.
"""

import argparse
import json
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend
from sglang.srt.layers.radix_attention import RadixAttention
from sglang.srt.model_executor.forward_batch_info import ForwardMode

from llm42_sglang.cli.hardware import hardware
from llm42_sglang.files import write_whole
from llm42_sglang.platform.attention import CpuAttnBackend
from llm42_sglang.platform.gemm import fp32_linear

LAYERS, HEADS, KV_HEADS, DIM, HIDDEN, MLP = 30, 9, 3, 64, 576, 1536
GROUPS, FAR_PAGE = (1, 4, 8), 20
DECODES = {"8 at 500": [500] * 8, "8 at 40 to 740": list(range(40, 800, 100))}  # context, tokens
QKV = (HEADS + 2 * KV_HEADS) * DIM
LINEARS = [(QKV, HIDDEN), (HIDDEN, HIDDEN), (2 * MLP, HIDDEN), (HIDDEN, MLP)]  # (out, in)
BACKENDS = {"llm42_cpu": CpuAttnBackend, "torch_native": TorchNativeAttnBackend}

console = Console(highlight=False, width=110)  # also where the output is a file
Case = tuple[str, str]  # workload and backend; or the rows of the linears, and "linears"
Times = dict[Case, list[float]]  # ms of a layer, round by round


class Pool:
    """A KV pool for each layer, as SGLang has it: [slots, KV heads, dim]."""

    def __init__(self, slots: int, page: int):
        self.page_size = page
        self.keys, self.values = (
            [torch.randn(slots, KV_HEADS, DIM).bfloat16() for _ in range(LAYERS)] for _ in range(2)
        )

    def set_kv_buffer(self, layer, where, k, v):
        self.keys[layer.layer_id][where.loc] = k.view(-1, KV_HEADS, DIM)
        self.values[layer.layer_id][where.loc] = v.view(-1, KV_HEADS, DIM)

    def get_key_buffer(self, layer_id):
        return self.keys[layer_id]

    def get_value_buffer(self, layer_id):
        return self.values[layer_id]


class Layers:
    """Attention and linears of `LAYERS` layers."""

    def __init__(self, page: int):
        pages = max(FAR_PAGE + 1, 1 + max(map(max, DECODES.values())) // page)
        slots = torch.randperm(8 * pages).view(8, pages, 1) * page + torch.arange(page)
        self.table = slots.flatten(1).int()  # [requests, tokens]
        pool = Pool(self.table.numel(), page)
        runner = SimpleNamespace(
            device="cpu",
            req_to_token_pool=SimpleNamespace(req_to_token=self.table),
            token_to_kv_pool=pool,
        )
        self.backends = {name: backend(runner) for name, backend in BACKENDS.items()}
        self.attention = [RadixAttention(HEADS, DIM, DIM**-0.5, KV_HEADS, i) for i in range(LAYERS)]
        self.weights = [[torch.randn(size) for size in LINEARS] for _ in range(LAYERS)]

    def attend(self, backend: str, batch: SimpleNamespace) -> None:
        """Run the attention of every layer."""
        rows = len(batch.out_cache_loc)
        q, k, v = (
            torch.randn(rows, heads * DIM).bfloat16() for heads in (HEADS, KV_HEADS, KV_HEADS)
        )
        chosen = self.backends[backend]
        chosen.init_forward_metadata(batch)
        for layer in self.attention:
            chosen.forward(q, k, v, layer, batch)

    def multiply(self, rows: int) -> None:
        """Run the linears of every layer."""
        inputs = {size: torch.randn(rows, size).bfloat16() for size in (HIDDEN, MLP)}
        for weight in (weight for layer in self.weights for weight in layer):
            x = inputs[weight.shape[1]]
            fp32_linear(x, weight).to(x.dtype)

    def extend(self, slots: int, page: int, size: int) -> SimpleNamespace:
        """A canonical pass with every slot on this page."""
        first = page * size
        return SimpleNamespace(
            forward_mode=ForwardMode.EXTEND,
            req_pool_indices=torch.arange(slots),
            seq_lens=torch.full((slots,), first + size),
            extend_prefix_lens=torch.full((slots,), first),
            extend_seq_lens=torch.full((slots,), size),
            out_cache_loc=self.table[:slots, first : first + size].flatten().long(),
            encoder_lens=None,
        )

    def decode(self, lengths: list[int]) -> SimpleNamespace:
        """A decode step, one request for each length."""
        requests, seq_lens = torch.arange(len(lengths)), torch.tensor(lengths)
        return SimpleNamespace(
            forward_mode=ForwardMode.DECODE,
            req_pool_indices=requests,
            seq_lens=seq_lens,
            out_cache_loc=self.table[requests, seq_lens - 1].long(),
            encoder_lens=None,
        )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="rounds")
    parser.add_argument("--page", type=int, default=32, choices=(16, 32, 64), help="T")
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    console.print(
        f"hardware: {psutil.cpu_count()} cores, {torch.get_num_threads()} threads,"
        f" {torch.backends.cpu.get_cpu_capability()}, {platform.machine()};"
        f" torch {torch.__version__}"
    )
    console.print(
        f"workload: {LAYERS} layers, {HEADS} heads, {KV_HEADS} KV heads of {DIM}, hidden {HIDDEN},"
        f" MLP {MLP}, bf16 KV, fp32 linears; T={options.page}; medians of {options.repeats} rounds"
    )
    layers = Layers(options.page)
    works = {
        f"pass G={slots}, page {number}": layers.extend(slots, number, options.page)
        for slots in GROUPS
        for number in (0, FAR_PAGE)
    }
    works |= {f"decode {name}": layers.decode(lengths) for name, lengths in DECODES.items()}
    rows = {work: f"{len(batch.out_cache_loc)} rows" for work, batch in works.items()}
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "hardware": hardware(),
        "page": options.page,
        "rounds": options.repeats,
        **report(measure(cases(layers, works), options.repeats), rows),
    }
    if options.out:
        write_whole(options.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def cases(layers: Layers, works: dict[str, SimpleNamespace]) -> dict[Case, Callable[[], None]]:
    """What to time. The linears are timed once for both backends: only the rows matter to them."""
    timed: dict[Case, Callable[[], None]] = {}
    for work, batch in works.items():
        for backend in BACKENDS:
            timed[work, backend] = partial(layers.attend, backend, batch)
        rows = len(batch.out_cache_loc)
        timed[f"{rows} rows", "linears"] = partial(layers.multiply, rows)
    return timed


def measure(timed: dict[Case, Callable[[], None]], repeats: int) -> Times:
    """Time every case once a round."""
    times: Times = {case: [] for case in timed}
    for number in track(range(repeats + 1), "rounds", console=console, transient=True):
        for case, run in timed.items():
            began = time.perf_counter()
            run()
            if number:  # the first is a warm-up
                times[case].append((time.perf_counter() - began) * 1e3 / LAYERS)
    return times


def report(times: Times, rows: dict[str, str]) -> dict[str, Any]:
    """Print medians and ratios, and return them for the JSON; rows: of each workload, as text."""
    for work in rows:
        for backend in BACKENDS:
            pairs = zip(times[work, backend], times[rows[work], "linears"], strict=True)
            times[work, f"{backend} layer"] = [sum(pair) for pair in pairs]
    columns = [*BACKENDS, *(f"{backend} layer" for backend in BACKENDS)]
    table = Table("ms of a layer", *columns)
    for work in rows:
        table.add_row(work, *(f"{statistics.median(times[work, name]):.2f}" for name in columns))
    console.print(table)
    far_over_near = {
        backend: {
            f"G={slots}": ratio(
                times[f"pass G={slots}, page {FAR_PAGE}", f"{backend} layer"],
                times[f"pass G={slots}, page 0", f"{backend} layer"],
            )
            for slots in GROUPS
        }
        for backend in BACKENDS
    }
    ours, stock = BACKENDS
    decode_over_stock = {
        name: {
            part: ratio(times[f"decode {name}", ours + end], times[f"decode {name}", stock + end])
            for part, end in (("attention", ""), ("layer", " layer"))
        }
        for name in DECODES
    }
    console.print(f"layer, page {FAR_PAGE} over page 0:", far_over_near)
    console.print(f"decode, {ours} over {stock}:", decode_over_stock)
    return {
        "layer_ms": {
            f"{work}: {part}": statistics.median(ms) for (work, part), ms in times.items()
        },
        "far_page_over_page_0": far_over_near,
        "decode_over_torch_native": decode_over_stock,
    }


def ratio(ours: list[float], others: list[float]) -> float:
    """Ours over the other's in each round; the median."""
    return round(statistics.median(a / b for a, b in zip(ours, others, strict=True)), 3)


if __name__ == "__main__":
    main()
