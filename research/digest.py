"""How long the weights of a model take to hash, and to hash again after an update of a part.

    scripts/run python research/digest.py [--rounds 9] [--out FILE]

The tensors are random, of a model of about 1 GB in bf16: fused linears, norms, an embedding. Every
round times three things, in turn: SHA-256 over everything, as this project hashed until 0.3.0; a
new `WeightsDigest`; and its `refresh` after about 1 % was written as SGLang's loaders do. A ratio
compares two times of one round. The last line is JSON.
"""

import argparse
import hashlib
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from llm42_sglang.cli.hardware import hardware
from llm42_sglang.engine.weights.digest import WeightsDigest
from llm42_sglang.files import write_whole

LAYERS, HIDDEN, MLP, KV, VOCABULARY = 7, 2048, 8192, 512, 32000
SHAPES = {  # of a layer; linears are [out, in]
    "qkv": (HIDDEN + 2 * KV, HIDDEN),
    "o": (HIDDEN, HIDDEN),
    "gate_up": (2 * MLP, HIDDEN),
    "down": (HIDDEN, MLP),
    "norm": (HIDDEN,),
}
OLD, NEW, AGAIN = "SHA-256", "BLAKE3", "BLAKE3, after an update"

console = Console(highlight=False, width=110)  # also where the output is a file


def make_model() -> torch.nn.Module:
    """All tensors of the model are stored ones."""
    shapes = {f"{name}_{i}": shape for i in range(LAYERS) for name, shape in SHAPES.items()}
    model = torch.nn.Module()
    for name, shape in {**shapes, "embed": (VOCABULARY, HIDDEN)}.items():
        tensor = torch.randn(shape).bfloat16()
        model.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=False))
    return model


def sha256_of(model: torch.nn.Module) -> str:
    """What stood for the weights in fingerprints until 0.3.0."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def update(model: torch.nn.Module, number: int) -> int:
    """Write the query rows of one layer; returns their bytes."""
    rows = model.get_parameter(f"qkv_{number % LAYERS}").data.narrow(0, 0, HIDDEN)
    rows.copy_(torch.randn_like(rows))
    return rows.nbytes


def timed(run: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(model: torch.nn.Module, rounds: int) -> dict[str, Any]:
    """Seconds of each round, by what was timed; and the bytes of an update."""
    seconds: dict[str, list[float]] = {OLD: [], NEW: [], AGAIN: []}
    followed = WeightsDigest(model)  # a warm-up, too
    whole = followed.hashed_bytes
    for number in range(rounds):
        seconds[OLD].append(timed(lambda: sha256_of(model)))
        seconds[NEW].append(timed(lambda: WeightsDigest(model)))
        with followed.watching():
            written = update(model, number)
        seconds[AGAIN].append(timed(followed.refresh))
    assert followed.value == WeightsDigest(model).value
    return {
        "bytes": whole,
        "written_bytes": written,
        "hashed_again_bytes": followed.hashed_bytes,
        "seconds": seconds,
    }


def ratios(of: list[float], over: list[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(of, over, strict=True)]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="write the JSON here as well")
    options = parser.parse_args()
    torch.manual_seed(0)
    console.print("hardware:", hardware())
    model = make_model()
    found = measure(model, options.rounds)
    seconds = found.pop("seconds")
    per_gb = {name: [s / found["bytes"] * 1e9 for s in each] for name, each in seconds.items()}
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "hardware": hardware(),
        "rounds": options.rounds,
        "tensors": len(model.state_dict()),
        **found,
        "seconds_per_gb": per_gb,
        "times_as_fast": {name: ratios(seconds[OLD], seconds[name]) for name in (NEW, AGAIN)},
    }
    console.print(
        f"workload: {found['bytes'] / 1e9:.2f} GB in {result['tensors']} tensors; an update writes "
        f"{found['written_bytes'] / 1e6:.1f} MB; {options.rounds} rounds"
    )
    table = Table("seconds per GB", "median", "least", "most")
    for name, each in per_gb.items():
        table.add_row(name, *(f"{s:.4f}" for s in (statistics.median(each), min(each), max(each))))
    console.print(table)
    if options.out:
        write_whole(options.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
