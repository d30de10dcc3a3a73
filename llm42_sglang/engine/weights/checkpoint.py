"""What this process has read from a checkpoint, so that nodes can tell whether they read the same.

A rank keeps its part of each tensor, so the digests of the ranks' weights differ by nature. But all
ranks read whole tensors. Their digests are added up, so that the order does not matter: SGLang has
every rank begin with another file.

Only a server of several nodes hashes here. The ranks of one node read the same files.
"""

from collections.abc import Iterable, Iterator

import torch
from sglang.srt.model_loader.loader import DefaultModelLoader
from sglang.srt.runtime_context import get_parallel

from llm42_sglang.engine.hooks import around
from llm42_sglang.engine.weights.digest import digest_of_tensor

_WRAP = 1 << 256

_sum = 0  # of this process's digests, since it was last taken


def take() -> str:
    """Return the digest of all that was read since the last call; empty if that was nothing."""
    global _sum
    taken, _sum = _sum, 0
    return f"{taken:064x}" if taken else ""


@around(
    "sglang.srt.model_loader.loader.DefaultModelLoader._get_weights_iterator",
    "compare what several nodes read",
)
def read(
    original, loader: DefaultModelLoader, *args, **kwargs
) -> Iterable[tuple[str, torch.Tensor]]:
    """As SGLang's: names and whole tensors."""
    weights = original(loader, *args, **kwargs)
    return weights if get_parallel().nnodes == 1 else noted(weights)


def noted(weights: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    """Hash what goes by."""
    global _sum
    for name, tensor in weights:
        _sum = (_sum + int.from_bytes(digest_of_tensor(name, tensor), "big")) % _WRAP
        yield name, tensor
