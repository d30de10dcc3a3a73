"""Weights on a GPU have the digest that they have in memory, and updates are followed there too."""

import pytest
import torch

from llm42_sglang.engine.weights import digest
from llm42_sglang.engine.weights.digest import WeightsDigest
from tests.engine.test_digest import Model, nbytes

pytestmark = pytest.mark.gpu


def test_a_model_on_the_gpu_has_the_digest_of_its_copy_in_memory(gpu, monkeypatch):
    monkeypatch.setattr(digest, "_PIECE_BYTES", 100)  # so that a tensor is copied in pieces
    model, copy = Model().cuda(), Model()
    followed = WeightsDigest(model)
    assert followed.value == WeightsDigest(copy).value
    new = torch.randn(8, 8)
    copy.qkv.data.narrow(0, 8, 8).copy_(new)
    with followed.watching(), torch.cuda.stream(torch.cuda.Stream()):
        model.qkv.data.narrow(0, 8, 8).copy_(new.pin_memory(), non_blocking=True)
    assert followed.refresh() == WeightsDigest(copy).value
    assert followed.hashed_bytes == nbytes(copy, ["qkv"])
