"""What the digest of the weights is, and what counts in it."""

from functools import partial

import pytest
import torch
from blake3 import blake3

from llm42_sglang.engine.weights import digest
from llm42_sglang.engine.weights.digest import WeightsDigest
from tests.engine.test_digest import Model, nbytes


def oracle(tensors: dict[str, torch.Tensor]) -> str:
    """The value, by the definition. A change of it would change every fingerprint."""
    whole = blake3()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest = blake3()
        for field in (name, str(tensor.dtype), str(tuple(tensor.shape))):
            digest.update(len(field).to_bytes(8, "little") + field.encode())
        digest.update(blake3(bytes(tensor.untyped_storage())).digest())
        whole.update(digest.digest())
    return whole.hexdigest()


def value_of(tensors: dict[str, torch.Tensor]) -> str:
    module = torch.nn.Module()
    for name, tensor in tensors.items():
        module.register_buffer(name, tensor)
    return WeightsDigest(module).value


KINDS = {
    "bf16": torch.arange(6).bfloat16().view(2, 3),
    "fp8": torch.arange(6).to(torch.float8_e5m2),
    "bool": torch.tensor([True, False]),
    "scalar": torch.tensor(7.5),
    "empty": torch.empty(0, 4),
    "transposed": torch.arange(12).view(3, 4).T,
    "expanded": torch.arange(3).expand(2, 3),
    "a part": torch.arange(12)[3:7],
    "one of many": torch.arange(12.0)[::12],
    "fp8, every other": torch.arange(12).to(torch.float8_e4m3fn)[::2],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_tensor_has_the_digest_that_is_defined(kind):
    compact = KINDS[kind].clone(memory_format=torch.contiguous_format)
    assert value_of({"it": KINDS[kind]}) == value_of({"it": compact}) == oracle({"it": compact})


def test_what_may_change_a_bit_counts():
    """Names, dtypes and shapes do, and which tensor has which bytes."""
    one, two = torch.tensor([[1, 2]]), torch.tensor([[1, 3]])
    states = [
        {"a": one, "b": two},
        {"a": two, "b": one},
        {"a": one, "c": two},
        {"a": one},
        {"a": one, "b": two.T},
        {"a": one, "b": two.view(torch.float64)},
        {"a": one, "b": two.view(torch.int32)},
        {"a": one, "b": two, "c": torch.empty(0)},
        {"a": one, "b": two, "c": torch.empty(1, 0)},
    ]
    assert len({*map(value_of, states)}) == len(states)


def test_where_tensors_lie_and_how_they_are_hashed_do_not_count(monkeypatch):
    tied, apart = Model(), Model()
    apart.head = torch.nn.Parameter(apart.head.detach().clone())
    apart.experts = torch.nn.Parameter(apart.experts.clone())
    alike = WeightsDigest(tied).value
    assert WeightsDigest(apart).value == alike == oracle(tied.state_dict())
    monkeypatch.setattr(digest, "_PIECE_BYTES", 5)
    monkeypatch.setattr(digest, "_THREADED_BYTES", 1)
    assert WeightsDigest(tied).value == alike


def test_tied_tensors_are_hashed_once():
    model = Model()
    followed = WeightsDigest(model)
    assert followed.hashed_bytes == nbytes(model, model.state_dict())
    assert followed.hashed_bytes + model.head.nbytes == sum(
        tensor.nbytes for tensor in model.state_dict().values()
    )


def test_tensors_that_share_a_storage_and_not_their_elements_are_told_apart():
    square = torch.arange(9).view(3, 3)
    views = {"it": square, "rows": square[:2], "other_rows": square[1:], "turned": square.T}
    views["narrow"] = square.view(torch.int32).as_strided((3, 3), (3, 1))
    compact = partial(torch.clone, memory_format=torch.contiguous_format)
    apart = {name: compact(view) for name, view in views.items()}
    assert value_of(views) == value_of(apart) == oracle(apart)
