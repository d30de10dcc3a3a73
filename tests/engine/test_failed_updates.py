"""Weight updates that fail: what is left of weights, fingerprint and service."""

import base64
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sglang.srt.utils import MultiprocessingSerializer

from tests.engine import client
from tests.engine.weights import Weights, fingerprint

Try = Callable[[Weights, Path], dict]


@pytest.fixture(scope="module", autouse=True)
def shared_by_name():
    """The server is no child of this process, so shared memory must have a name."""
    strategy = torch.multiprocessing.get_sharing_strategy()
    torch.multiprocessing.set_sharing_strategy("file_system")
    yield
    torch.multiprocessing.set_sharing_strategy(strategy)


def from_disk(change: Callable[[Path], None], **more) -> Try:
    """An update from a copy of the other weights that `change` has damaged."""

    def attempt(weights: Weights, folder: Path) -> dict:
        copy = folder / "copy"
        shutil.copytree(weights.changed, copy)
        change(copy)
        return weights.load(copy, **more)

    return attempt


def with_tensors(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]):
    def rewrite(folder: Path) -> None:
        (file,) = folder.glob("*.safetensors")
        save_file(change(load_file(file)), file)

    return rewrite


def truncate(folder: Path) -> None:
    (file,) = folder.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1000])


def empty(folder: Path) -> None:
    for file in folder.glob("*.safetensors"):
        file.unlink()


def in_session(**body) -> Try:
    """A load of tensors between begin and end."""

    def attempt(weights: Weights, folder: Path) -> dict:
        assert session(weights, "begin")["success"]
        answer = client.post(weights.url, body, "/update_weights_from_tensor").json()
        session(weights, "end")
        return answer

    return attempt


def session(weights: Weights, which: str) -> dict:
    return client.post(weights.url, {}, f"/{which}_weight_update").json()


def tensors(*named: tuple[str, torch.Tensor]) -> list[str]:
    return [base64.b64encode(MultiprocessingSerializer.serialize(list(named))).decode()]


def twice(which: str) -> Try:
    """The second begin, or the second end."""

    def attempt(weights: Weights, folder: Path) -> dict:
        assert session(weights, "begin")["success"]
        if which == "end":
            assert session(weights, "end")["success"]
            return session(weights, "end")
        answer = session(weights, "begin")
        assert session(weights, "end")["success"]
        return answer

    return attempt


def post(path: str, **body) -> Try:
    return lambda weights, folder: client.post(weights.url, body, path).json()


# A file is loaded in the order of names.
FIRST, NORM = "model.embed_tokens.weight", "model.norm.weight"
GOOD, WRONG = (NORM, torch.ones(128)), ("model.layers.1.mlp.down_proj.weight", torch.ones(3, 5))
DISTRIBUTED = {"names": [NORM], "dtypes": ["float32"], "shapes": [[128]]}

# What is tried, and a part of what the client is told.
HARMLESS: dict[str, tuple[Try, str]] = {
    "no such folder": (lambda weights, folder: weights.load(folder / "none"), "iterator"),
    "no weights in it": (from_disk(empty), "Cannot find any model weights"),
    "unknown format": (from_disk(lambda copy: None, load_format="x"), "is not a valid LoadFormat"),
    "truncated file": (from_disk(truncate), "incomplete"),
    "tensors outside a session": (
        post("/update_weights_from_tensor", serialized_named_tensors=tensors(GOOD)),
        "between begin_weight_update",
    ),
    "damaged tensors": (in_session(serialized_named_tensors=["AAAA"]), "the update failed"),
    "a tensor of another shape": (in_session(serialized_named_tensors=tensors(WRONG)), ""),
    "an unknown tensor": (
        in_session(serialized_named_tensors=tensors(("x", GOOD[1])), load_format="direct"),
        "KeyError: 'x'",
    ),
    "an unknown format of tensors": (
        in_session(serialized_named_tensors=tensors(GOOD), load_format="x"),
        "Unknown load_format",
    ),
    "a group that nobody has made": (
        post("/update_weights_from_distributed", **DISTRIBUTED),
        "between begin_weight_update",
    ),
    "a socket that nobody serves": (
        post("/update_weights_from_ipc", zmq_handles={"GPU-0": "ipc:///tmp/none"}),
        "",
    ),
    "two begins": (twice("begin"), "already open"),
    "two ends": (twice("end"), "no weight-update session is open"),
}
HALF_WAY: dict[str, Try] = {
    "a folder with one tensor of another shape": from_disk(
        with_tensors(lambda of_file: of_file | {FIRST: of_file[FIRST] * 2, WRONG[0]: WRONG[1]})
    ),
    "a list with one tensor of another shape": in_session(
        serialized_named_tensors=tensors(GOOD, WRONG)
    ),
}


@pytest.mark.server("other weights")
@pytest.mark.parametrize("name", HARMLESS)
def test_a_failed_update_that_changes_nothing_leaves_everything(weights, tmp_path, name):
    attempt, told = HARMLESS[name]
    prompt = client.prompts()[3]
    client.flush(weights.url)
    before, answer = fingerprint(weights.url), client.generate(weights.url, prompt)
    refusal = attempt(weights, tmp_path)
    assert not refusal["success"] and told in refusal["message"], refusal
    assert fingerprint(weights.url) == before
    again = client.generate(weights.url, prompt)
    assert again.ids == answer.ids
    assert again.meta["cached_tokens"] > 0, "pages of the same weights are kept"


@pytest.mark.server("other weights")
@pytest.mark.parametrize("name", HALF_WAY)
def test_an_update_that_fails_half_way_ends_the_service_until_another_succeeds(
    weights, tmp_path, name
):
    url, request = weights.url, client.body(client.prompts()[3])
    before = client.ask(url, request)
    refusal = HALF_WAY[name](weights, tmp_path)
    assert not refusal["success"] and "failed half way" in refusal["message"], refusal
    assert "failed half way" in fingerprint(url)
    assert client.get(url, "/health").status_code == 503
    refused = client.post(url, request)
    assert refused.status == 503 and "failed half way" in refused.text
    ordinary = client.generate(url, client.prompts()[3], deterministic=False)
    assert len(ordinary.ids) == client.NEW_TOKENS
    # A session without a load mends nothing, nor does a begin that is refused.
    assert session(weights, "begin")["success"] and not session(weights, "begin")["success"]
    assert session(weights, "end")["success"]
    assert client.post(url, request).status == 503
    weights.update(weights.plain)
    weights.update(weights.changed)
    assert client.ask(url, request).ids == before.ids
