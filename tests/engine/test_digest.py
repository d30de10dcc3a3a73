"""The digest of the weights follows every write that a loader may make, and hashes no more again.

With SGLang's own models and loaders: `digest_tiny.py`, in a process of its own.
"""

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm42_sglang.engine.weights import digest
from llm42_sglang.engine.weights.digest import WeightsDigest
from tests.engine import tiny_models
from tests.engine.servers import ENV


class Model(torch.nn.Module):
    """Parameters as SGLang's models have them: fused, of experts, tied, of several dtypes."""

    def __init__(self, seed: int = 0):
        super().__init__()
        draw = partial(torch.randn, generator=torch.Generator().manual_seed(seed))
        self.qkv = torch.nn.Parameter(draw(24, 8), requires_grad=False)
        self.bias = torch.nn.Parameter(draw(24).bfloat16(), requires_grad=False)
        self.experts = torch.nn.Parameter(draw(4, 6, 8).bfloat16(), requires_grad=False)
        self.embed = self.head = torch.nn.Parameter(draw(10, 8))
        self.transposed = torch.nn.Parameter(draw(5, 7).T, requires_grad=False)
        self.register_buffer("scale", draw(()))
        self.register_buffer("fp8", draw(4, 8).to(torch.float8_e4m3fn))
        self.register_buffer("nothing", torch.empty(0, 3))
        self.register_buffer("rotary", draw(9), persistent=False)


def nbytes(model: torch.nn.Module, names: Iterable[str]) -> int:
    """Of these tensors; tied ones count once."""
    tensors = [model.state_dict()[name] for name in names]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


# -- what loaders do: each writes to a few tensors, and names them --

Draw = Callable[..., torch.Tensor]  # of a size


def whole(model: Model, draw: Draw) -> list[str]:
    for tensor in (model.bias, model.fp8, model.transposed):
        tensor.data.copy_(draw(tensor.shape))
    return ["bias", "fp8", "transposed"]


def part(model: Model, draw: Draw) -> list[str]:
    model.qkv.data.narrow(0, 8, 8).copy_(draw(8, 8))
    return ["qkv"]


def expert(model: Model, draw: Draw) -> list[str]:
    model.experts.data[2].narrow(0, 3, 3).copy_(draw(3, 8))
    return ["experts"]


def items(model: Model, draw: Draw) -> list[str]:
    model.bias.data[torch.tensor([1, 5])] = draw(2).bfloat16()
    model.transposed.data[:, 2] = draw(7)
    return ["bias", "transposed"]


def tied(model: Model, draw: Draw) -> list[str]:
    model.head.data.copy_(draw(10, 8))
    return ["head", "embed"]


def scalar(model: Model, draw: Draw) -> list[str]:
    model.scale.data.fill_(draw(1).item())
    return ["scale"]


def together(model: Model, draw: Draw) -> list[str]:
    torch._foreach_copy_([model.qkv.data, model.bias.data], [draw(24, 8), draw(24).bfloat16()])
    return ["qkv", "bias"]


def output(model: Model, draw: Draw) -> list[str]:
    torch.add(draw(24, 8), 1, out=model.qkv.data)
    return ["qkv"]


def storage(model: Model, draw: Draw) -> list[str]:
    model.qkv.untyped_storage().copy_(draw(24, 8).untyped_storage())
    return ["qkv"]


def moved(model: Model, draw: Draw) -> list[str]:
    model.qkv.data = draw(24, 8)
    return ["qkv"]


def replaced(model: Model, draw: Draw) -> list[str]:
    model.experts = torch.nn.Parameter(draw(4, 6, 8).bfloat16(), requires_grad=False)
    return ["experts"]


def read(model: Model, draw: Draw) -> list[str]:
    assert model.qkv.float().sum() + model.embed.detach().clone().sum() != 0
    model.rotary.zero_()  # is not stored
    return []


WRITES = (whole, part, expert, items, tied, scalar, together, output, storage, moved, replaced)


def follows(writes: Iterable[Callable[[Model, Draw], list[str]]], inference: bool) -> bool:
    """Whether the digest has the value of a new one after each of these updates.

    It must have read again what was written, and nothing else.
    """
    model = Model()
    followed = WeightsDigest(model)
    for seed, write in enumerate(writes, 1):  # 0 is that of the model
        draw = partial(torch.randn, generator=torch.Generator().manual_seed(seed))
        with torch.inference_mode(inference), followed.watching():
            names = write(model, draw)
        value = followed.refresh()
        if value != followed.value or value != WeightsDigest(model).value:
            return False
        assert followed.hashed_bytes == nbytes(model, names), write.__name__
    return True


@given(st.lists(st.sampled_from([*WRITES, read]), min_size=1, max_size=8), st.booleans())
@settings(deadline=None, max_examples=60)
@example([*WRITES, read], False)
@example([*WRITES, read], True)
def test_an_update_leaves_the_value_of_a_new_digest(writes, inference):
    assert follows(writes, inference)


IN_PLACE = [write for write in WRITES if write not in (moved, replaced)]


@pytest.mark.parametrize("write", IN_PLACE, ids=lambda write: write.__name__)
def test_negative_control_who_does_not_look_keeps_the_old_value(monkeypatch, write):
    monkeypatch.setattr(digest, "_written", lambda func, args, kwargs: [])
    assert not follows([write], False)


def test_a_new_parameter_at_the_old_ones_address_is_another_one():
    model = Model()
    memory = torch.randn(24, 8).numpy()
    model.qkv.data = torch.from_numpy(memory)
    followed, before = WeightsDigest(model), model.qkv.data_ptr()
    model.qkv.data = torch.empty(0)
    memory += 1  # as a kernel writes that is not one of PyTorch's operators
    with followed.watching():
        model.qkv.data = torch.from_numpy(memory)
    assert model.qkv.data_ptr() == before
    assert followed.refresh() == WeightsDigest(model).value
    assert followed.hashed_bytes == model.qkv.nbytes
    assert len(followed._contents) == len(
        WeightsDigest(model)._contents
    )  # the old one is forgotten


def test_several_updates_may_be_watched_before_they_are_hashed():
    model = Model()
    followed = WeightsDigest(model)
    for write in (part, expert, part):
        with followed.watching():
            write(model, torch.randn)
    assert followed.refresh() == WeightsDigest(model).value
    assert followed.hashed_bytes == nbytes(model, ["qkv", "experts"])


# -- what cannot be seen: then everything is hashed --


@pytest.fixture
def pool():
    """Its thread has been there before."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        yield pool


def in_a_pool(pool, write: Callable[[], object]) -> None:
    pool.submit(write).result()


def in_a_new_thread(pool, write: Callable[[], object]) -> None:
    thread = threading.Thread(target=write)
    thread.start()
    thread.join()


def part_of(model: Model) -> Callable[[], object]:
    return partial(part, model, torch.randn)


@pytest.mark.parametrize("elsewhere", [in_a_pool, in_a_new_thread])
def test_a_write_by_another_thread_is_not_missed(elsewhere, pool, monkeypatch):
    model = Model()
    followed = WeightsDigest(model)
    with followed.watching():
        elsewhere(pool, part_of(model))
    assert followed.refresh() == WeightsDigest(model).value
    assert followed.hashed_bytes == nbytes(model, model.state_dict())
    with followed.watching():  # the next one is seen again
        part_of(model)()
    assert followed.refresh() == WeightsDigest(model).value
    assert followed.hashed_bytes == model.qkv.nbytes
    monkeypatch.setattr(digest, "other_threads", lambda notice: nullcontext())
    with followed.watching():
        elsewhere(pool, part_of(model))
    assert followed.refresh() != WeightsDigest(model).value  # the control


def test_without_a_look_everything_is_hashed():
    model = Model()
    followed = WeightsDigest(model)
    part_of(model)()
    assert followed.refresh() == WeightsDigest(model).value
    assert followed.hashed_bytes == nbytes(model, model.state_dict())


def test_a_quantized_model_is_hashed_as_a_whole():
    """Kernels that quantize may write without PyTorch's knowing."""
    model = Model()
    model.quant_method = SimpleNamespace()
    followed = WeightsDigest(model)
    with followed.watching():
        part_of(model)()
        model.bias.data.view(torch.uint8).numpy()[0] ^= 1  # what nobody sees
    assert followed.refresh() == WeightsDigest(model).value
    assert followed.hashed_bytes == nbytes(model, model.state_dict())


def test_an_update_that_fails_in_between_is_followed_too():
    model = Model()
    followed = WeightsDigest(model)
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit
    with pytest.raises(ZeroDivisionError), followed.watching():
        assert threading.Thread.start is not start
        part_of(model)()
        _ = 1 / 0
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == (start, submit)
    part_seen = followed.refresh()
    assert part_seen == WeightsDigest(model).value and followed.hashed_bytes == model.qkv.nbytes
    model.bias.data.zero_()  # out of sight, so a look that saw nothing does not help
    with followed.watching():
        pass
    assert followed.refresh() == part_seen
    assert followed.rehash() == WeightsDigest(model).value != part_seen


# -- SGLang's models and loaders --


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> list[dict]:
    """Of every update that `digest_tiny` makes."""
    folder = tmp_path_factory.mktemp("models")
    models = [str(tiny_models.make(name, folder)) for name in tiny_models.ARCHITECTURES]
    command = [sys.executable, "-m", "tests.engine.digest_tiny", *models]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | ENV)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


def test_updates_by_sglangs_loaders_are_followed(told):
    """Every model is updated in every way, and only what changed is hashed again."""
    ways = {(update["model"], update["way"]) for update in told}
    assert ways == set(itertools.product(tiny_models.ARCHITECTURES, {way for _, way in ways}))
    assert len(ways) > 20
    assert [update for update in told if update["followed"] != update["anew"]] == []
    assert [update for update in told if update["hashed_bytes"] != update["changed_bytes"]] == []
    assert any(update["changed_bytes"] < update["bytes"] / 20 for update in told)
    assert any(update["changed_bytes"] == update["bytes"] for update in told)
