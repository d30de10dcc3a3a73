"""How trainers renew the weights of an SGLang server: their HTTP calls, in the order of their code.

Each function names the sources that it was read in. Only what these calls are is taken from there.
slime and verl are written for an older SGLang than 0.5.23. It takes tensors only between
/begin_weight_update and /end_weight_update, so these two are added where slime and verl lack them,
and marked "added". miles is a fork of slime that calls them already.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NamedTuple

import torch
from sglang.srt.model_executor.model_runner_components.weight_updater import LocalSerializedTensor
from sglang.srt.utils import MultiprocessingSerializer, init_custom_process_group
from sglang.srt.weight_sync.tensor_bucket import FlattenedTensorBucket

from llm42_sglang.cli.launch import HOST, free_port

GROUP = "slime-pp_0"  # of processes: the trainer, which is rank 0, and the server
TIMEOUT = timedelta(seconds=60)  # for joining it, and for each broadcast


def nothing() -> None:
    """What a trainer does while most calls are under way."""


class Call(NamedTuple):
    """One HTTP request."""

    path: str
    body: dict | None = None  # of a POST; None: a GET
    meanwhile: Callable[[], object] = nothing  # what the trainer does until the answer is there


class NewWeights(NamedTuple):
    """What the trainer has to give. `buckets`: it sends several, not all tensors at once."""

    folder: str
    buckets: list[list[tuple[str, torch.Tensor]]]
    version: str


Calls = Iterator[Call]
PAUSE, CONTINUE, FLUSH = "/pause_generation", "/continue_generation", "/flush_cache"
BEGIN, END = Call("/begin_weight_update", {}), Call("/end_weight_update", {})
# THUDM/slime at 624b824: slime/rollout/sglang_rollout.py. The seed is its rollout_seed + i.
SLIME_SAMPLING = {
    "temperature": 0.8,
    "top_p": 1.0,
    "top_k": -1,
    "stop": None,
    "stop_token_ids": None,
    "skip_special_tokens": False,
    "no_stop_trim": True,
    "spaces_between_special_tokens": False,
}


def slime_from_disk(new: NewWeights) -> Calls:
    """THUDM/slime at 624b824: slime/ray/actor_group.py, slime/backends/sglang_utils/
    sglang_engine.py. Without a mode the pause aborts what is under way."""
    yield Call(PAUSE, {})
    yield Call(FLUSH)
    yield Call(
        "/update_weights_from_disk", {"model_path": new.folder, "weight_version": new.version}
    )
    yield Call(CONTINUE, {})


def slime_from_tensors(new: NewWeights) -> Calls:
    """THUDM/slime at 624b824: slime/backends/megatron_utils/update_weight/
    update_weight_from_tensor.py, when trainer and server share GPUs; here they share memory."""
    yield Call(PAUSE, {})
    yield Call(FLUSH)
    yield BEGIN  # added
    for bucket in new.buckets:
        yield _bucket(bucket, weight_version=new.version)
    yield END  # added
    yield Call(CONTINUE, {})


def slime_from_distributed(new: NewWeights) -> Calls:
    """THUDM/slime at 624b824: slime/backends/megatron_utils/update_weight/
    update_weight_from_distributed.py. It has NCCL, which needs GPUs; here it is gloo."""
    port, groups = free_port(), []

    def join() -> None:
        address = f"tcp://{HOST}:{port}"
        pair = {"world_size": 2, "rank": 0, "group_name": GROUP, "timeout": TIMEOUT}
        groups.append(init_custom_process_group("gloo", address, **pair))

    def send(bucket: list[tuple[str, torch.Tensor]]) -> None:
        for _, tensor in bucket:
            torch.distributed.broadcast(tensor, 0, group=groups[0])

    where = {"master_address": HOST, "master_port": port, "rank_offset": 1, "world_size": 2}
    yield Call(
        "/init_weights_update_group", {**where, "group_name": GROUP, "backend": "gloo"}, join
    )
    yield Call(PAUSE, {})
    yield Call(FLUSH)
    yield BEGIN  # added
    for bucket in new.buckets:
        body = {
            "names": [name for name, _ in bucket],
            "dtypes": [str(tensor.dtype).removeprefix("torch.") for _, tensor in bucket],
            "shapes": [list(tensor.shape) for _, tensor in bucket],
            "group_name": GROUP,
            "flush_cache": False,
            "weight_version": new.version,
        }
        yield Call("/update_weights_from_distributed", body, lambda bucket=bucket: send(bucket))
    yield END  # added
    yield Call(CONTINUE, {})
    yield Call("/destroy_weights_update_group", {"group_name": GROUP})  # before the next group
    torch.distributed.destroy_process_group(groups[0])


def verl(new: NewWeights) -> Calls:
    """verl-project/verl at 1dda039: verl/checkpoint_engine/base.py, verl/workers/rollout/
    sglang_rollout/sglang_rollout.py, async_sglang_server.py and http_server_engine.py, with
    free_cache_engine=False. It aborts and goes on inside of the server's process; here by HTTP. It
    gives no version."""
    yield Call(PAUSE, {"mode": "abort"})
    yield BEGIN  # added
    for bucket in new.buckets:
        tensors = [(name, _of_one_rank(tensor)) for name, tensor in bucket]
        payload = MultiprocessingSerializer.serialize(tensors, output_str=True)
        body = {"serialized_named_tensors": [payload], "load_format": None, "flush_cache": False}
        yield Call("/update_weights_from_tensor", body)
    yield END  # added
    yield Call(f"{FLUSH}?reset_connector=true")
    yield Call(CONTINUE, {})


def miles(new: NewWeights) -> Calls:
    """radixark/miles at 31f1ca9: miles/backends/megatron_utils/update_weight/
    update_weight_from_tensor.py and common.py, miles/backends/sglang_utils/sglang_engine.py."""
    yield Call(PAUSE, {"mode": "retract"})
    yield Call(FLUSH)
    yield Call("/begin_weight_update", {"selector": "all"})
    for bucket in new.buckets:
        yield _bucket(bucket, weight_version=new.version, selector="all")
    yield END
    yield Call(CONTINUE, {})


def _bucket(bucket: list[tuple[str, torch.Tensor]], **more: str) -> Call:
    flat = FlattenedTensorBucket(named_tensors=bucket)
    content = {"flattened_tensor": flat.get_flattened_tensor(), "metadata": flat.get_metadata()}
    payload = MultiprocessingSerializer.serialize(content, output_str=True)
    body = {"load_format": "flattened_bucket", "flush_cache": False, **more}
    return Call("/update_weights_from_tensor", {"serialized_named_tensors": [payload], **body})


def _of_one_rank(tensor: torch.Tensor) -> LocalSerializedTensor:
    return LocalSerializedTensor(values=[MultiprocessingSerializer.serialize(tensor)])
