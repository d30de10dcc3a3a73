"""FlashInfer's own planner of paged prefills, compiled from its header; it needs no GPU.

The compiler is the environment's own (`nvidia-cuda-nvcc`). It takes some seconds, once per version
of FlashInfer: what it makes stays in the cache folder.
"""

import ctypes
import hashlib
import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from llm42_sglang.cli.cache import cache_dir
from llm42_sglang.files import replacing

SOURCE = Path(__file__).with_suffix(".cu")
FLAGS = (
    *("-x", "cu", "-std=c++20", "-DCCCL_DISABLE_CTK_COMPATIBILITY_CHECK"),
    *("-shared", "-Xcompiler", "-fPIC", "-cudart", "static"),
)


class NoCompilerError(RuntimeError):
    """The planner cannot be compiled here; the text says what is missing."""


class Shape(NamedTuple):
    """What a server fixes: the pass, the model's heads, and the device's multiprocessors."""

    page: int  # T, rows of every slot
    kv_heads: int
    heads_per_kv: int
    head_dim: int
    sms: int


class Work(NamedTuple):
    """What computes one slot's rows."""

    split_kv: bool  # of the whole pass: rows go through the merge kernel
    tile: int  # rows of queries, times heads per KV head, in a block of threads
    chunk: int  # KV tokens in an item; 0 if nothing is split: no kernel reads it then
    items: tuple[tuple[int, int], ...]  # (tile of queries, chunk of KV)


def plan(
    shape: Shape, lengths: Sequence[int], fixed_split: int = -1, disable_split_kv: bool = False
) -> list[Work]:
    """Plan a pass over slots of so many KV tokens each, as SGLang does: a KV page is a token."""
    slots = len(lengths)
    rows = [shape.page * i for i in range(slots + 1)]
    kv = list(accumulate(lengths, initial=0))
    # Two blocks of threads on every multiprocessor (`PrefillPlanImpl`).
    most = 2 * shape.sms // shape.kv_heads
    capacity = sum(lengths) * shape.heads_per_kv + slots * shape.page
    items, head = (ctypes.c_int32 * (3 * capacity))(), (ctypes.c_int64 * 3)()
    count = library().llm42_plan_prefill(
        (ctypes.c_int32 * (slots + 1))(*rows),
        (ctypes.c_int32 * (slots + 1))(*kv),
        *(slots, shape.kv_heads * shape.heads_per_kv, shape.kv_heads, shape.head_dim, 1, most),
        *(fixed_split, disable_split_kv, head, items, ctypes.c_int64(capacity)),
    )
    assert count >= 0, "FlashInfer's planner refused"
    split_kv, tile, chunk = head
    of_slot: list[list[tuple[int, int]]] = [[] for _ in range(slots)]
    for i in range(count):
        of_slot[items[3 * i]].append((items[3 * i + 1], items[3 * i + 2]))
    return [Work(bool(split_kv), tile, chunk if split_kv else 0, tuple(each)) for each in of_slot]


@cache
def library() -> ctypes.CDLL:
    """Compiled now or before. Raises NoCompilerError."""
    key = hashlib.sha256(" ".join((*FLAGS, SOURCE.read_text())).encode()).hexdigest()[:12]
    path = cache_dir() / f"flashinfer-planner-{version('flashinfer-python')}-{key}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as new:
            _compile(new)
    loaded = ctypes.CDLL(str(path))
    loaded.llm42_plan_prefill.restype = ctypes.c_int64
    return loaded


def _compile(out: Path) -> None:
    nvcc = next(iter(sorted(_folder("nvidia").glob("cu*/bin/nvcc"))), None)
    if nvcc is None or shutil.which("g++") is None:
        missing = "g++" if nvcc else "nvcc (nvidia-cuda-nvcc)"
        raise NoCompilerError(f"no {missing} here to compile FlashInfer's planner with")
    folders = (f"-I{_folder('flashinfer') / 'data' / 'include'}", f"-L{nvcc.parents[1] / 'lib'}")
    command = [str(nvcc), *FLAGS, *folders, "-o", str(out), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"FlashInfer's header has changed:\n{done.stderr}"


def _folder(package: str) -> Path:
    """Where a package lies, without importing it."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else Path("/nowhere")
