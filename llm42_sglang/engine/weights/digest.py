"""One digest of a model's weights. It follows updates: only what was written is hashed again.

The digest of a tensor covers its name, dtype, shape and bytes. The model's digest is a hash of its
tensors' digests, in the order of their names. It does not count where tensors lie, nor who shares
memory.

SGLang's loaders write with `param.data.copy_(...)`, mostly into a part of a fused parameter. That
shows neither in the parameter object nor in its version counter. So PyTorch's dispatcher is
watched: the schema of an operator says which arguments it writes. A parameter that was replaced has
another storage.

Some writes cannot be seen: those of other threads, and those of kernels that are not PyTorch's
operators. After an update that may have made such writes, everything is hashed again.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

import torch
from blake3 import blake3
from sglang.srt.layers.quantization.unquant import (
    UnquantizedEmbeddingMethod,
    UnquantizedFusedMoEMethod,
    UnquantizedLinearMethod,
)
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Loading them writes with PyTorch's operators only, and so does process_weights_after_loading.
_PLAIN = (UnquantizedLinearMethod, UnquantizedEmbeddingMethod, UnquantizedFusedMoEMethod)
_PIECE_BYTES = 1 << 28  # at most so much of a tensor is copied from a GPU at a time
_THREADED_BYTES = 1 << 20  # from so many on, several threads are faster than one


class WeightsDigest:
    """The digest of a model's stored tensors, those of `state_dict()`.

    Buffers that are not stored, such as rotary tables, follow from the model's configuration.
    """

    def __init__(self, model: torch.nn.Module):
        """Hash every tensor of the model."""
        self.value = ""  # 64 hex digits
        self.hashed_bytes = 0  # what the last hash has read
        self._model = model
        self._contents: dict[_Place, bytes] = {}  # digests of the bytes that lie there
        self._writes = Writes()
        self._watched = False  # since the last hash, `watching` was entered
        self._may_have_missed = False  # and while it was, there were writes it cannot see
        self.rehash()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note which stored tensors this thread writes until it leaves this.

        The scheduler's event loop may be in inference mode. Several updates may be watched, one
        after the other, before the next `refresh`.
        """
        self._watched = True
        with other_threads(self._miss), self._writes:
            yield

    def refresh(self) -> str:
        """Return the value after hashing again what was written since the last hash.

        That is everything, unless all writes were made while `watching`, where it can see them.
        """
        if not self._watched or self._may_have_missed or not _is_plain(self._model):
            return self.rehash()
        written = self._writes.storages
        kept = {at: it for at, it in self._contents.items() if at.storage_start not in written}
        return self._hash(kept)

    def rehash(self) -> str:
        """Return the value after hashing every tensor again."""
        return self._hash({})

    def _hash(self, known: "dict[_Place, bytes]") -> str:
        """Hash what lies at places that are not among the known ones."""
        tensors = sorted(self._model.state_dict().items())
        _wait_for({tensor.device for _, tensor in tensors})
        by_place = {_place(tensor): tensor for _, tensor in tensors}
        unknown = {place: tensor for place, tensor in by_place.items() if place not in known}
        hashed = {place: _digest_of_bytes(tensor) for place, tensor in unknown.items()}
        contents = {place: hashed.get(place) or known[place] for place in by_place}
        whole = blake3()
        for name, tensor in tensors:
            whole.update(_digest(name, tensor, contents[_place(tensor)]))
        self._contents, self.value = contents, whole.hexdigest()
        self.hashed_bytes = sum(tensor.nbytes for tensor in unknown.values())
        self._writes.storages.clear()
        self._watched = self._may_have_missed = False
        return self.value

    def _miss(self) -> None:
        self._may_have_missed = True


class _Place(NamedTuple):
    """Where a tensor's bytes lie, and how they are read. A reference to the storage is held without
    its memory, so no other storage can be mistaken for it."""

    storage: StorageWeakRef
    storage_start: int  # address
    offset: int
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype


def _place(tensor: torch.Tensor) -> _Place:
    storage = tensor.untyped_storage()
    return _Place(
        StorageWeakRef(storage),
        storage.data_ptr(),
        tensor.storage_offset(),
        tensor.shape,
        tensor.stride(),
        tensor.dtype,
    )


class Writes(TorchDispatchMode):
    """Notes which storages are written by operators of this thread, while it is active."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.storages: set[int] = set()  # their addresses

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for value in tree_leaves(_written(func, args, kwargs)):
            if isinstance(value, torch.Tensor) and torch._C._has_storage(value):
                self.storages.add(value.untyped_storage().data_ptr())
        return func(*args, **kwargs)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Return the arguments that an operator may write."""
    if not isinstance(func, torch._ops.OpOverload) or func.namespace != "aten":
        return [args, kwargs]  # some do not say, such as those of torch.distributed
    specs = {spec.name for spec in func._schema.arguments if spec.is_write}
    named = zip((spec.name for spec in func._schema.arguments), args, strict=False)
    return [value for name, value in [*named, *kwargs.items()] if name in specs]


@contextmanager
def other_threads(notice: Callable[[], None]) -> Iterator[None]:
    """Call `notice` whenever a thread is started, or a pool of threads is given work."""
    calls = ((threading.Thread, "start"), (ThreadPoolExecutor, "submit"))
    originals = [getattr(owner, name) for owner, name in calls]
    try:
        for (owner, name), original in zip(calls, originals, strict=True):
            setattr(owner, name, _after(notice, original))
        yield
    finally:
        for (owner, name), original in zip(calls, originals, strict=True):
            setattr(owner, name, original)


def _after(notice: Callable[[], None], original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def noticed(*args, **kwargs):
        notice()
        return original(*args, **kwargs)

    return noticed


def _is_plain(model: torch.nn.Module) -> bool:
    """Whether only PyTorch's operators write its weights. Kernels that quantize may be others."""
    methods = [getattr(module, "quant_method", None) for module in model.modules()]
    return all(method is None or isinstance(method, _PLAIN) for method in methods)


def _wait_for(devices: set[torch.device]) -> None:
    """Wait until all that was launched there is done: a loader may copy on a stream of its own."""
    for device in devices:
        if device.type == "cuda":
            torch.cuda.synchronize(device)


def _digest_of_bytes(tensor: torch.Tensor) -> bytes:
    """Return the digest of a tensor's elements, in the order of their indices."""
    dense = tensor.detach().contiguous()
    octets = dense.as_strided((dense.numel(),), (1,)).view(torch.uint8)
    hasher = blake3(max_threads=blake3.AUTO if len(octets) >= _THREADED_BYTES else 1)
    for piece in octets.split(_PIECE_BYTES):
        hasher.update(piece.cpu().numpy())
    return hasher.digest()


def digest_of_tensor(name: str, tensor: torch.Tensor) -> bytes:
    """Return the digest of one tensor with this name: its dtype, shape and bytes."""
    return _digest(name, tensor, _digest_of_bytes(tensor))


def _digest(name: str, tensor: torch.Tensor, contents: bytes) -> bytes:
    """Return the digest of a tensor with this name, its bytes given by their digest."""
    hasher = blake3()
    for field in (name, str(tensor.dtype), str(tuple(tensor.shape))):
        encoded = field.encode()
        hasher.update(len(encoded).to_bytes(8, "little"))
        hasher.update(encoded)
    return hasher.update(contents).digest()
