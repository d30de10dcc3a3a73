"""Update tiny models with SGLang's own loaders, in this process, and follow their weights' digests.

python -m tests.engine.digest_tiny MODEL...      JSON: a list of updates, each of a few tensors
                                                 by name, or of the whole model from a folder
"""

import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from sglang.benchmark.one_batch import load_model
from sglang.srt.configs.device_config import DeviceConfig
from sglang.srt.configs.load_config import LoadConfig
from sglang.srt.configs.model_config import ModelConfig
from sglang.srt.model_executor.model_runner_components.weight_updater import WeightUpdater
from sglang.srt.model_loader.loader import DefaultModelLoader
from sglang.srt.runtime_context import SpawnRanks, publish
from sglang.srt.server_args import PortArgs, prepare_server_args
from sglang.srt.weight_sync.tensor_bucket import FlattenedTensorBucket

from llm42_sglang.engine.weights.digest import WeightsDigest
from llm42_sglang.platform.linear import use_mixed_precision

ROUNDS = 3  # of each way, with other tensors
Named = list[tuple[str, torch.Tensor]]


class Subject:
    """A loaded model, and what its checkpoint has."""

    def __init__(self, folder: Path, model: torch.nn.Module, config: ModelConfig):
        self.name, self.model = folder.name, model
        self.checkpoint = load_file(folder / "model.safetensors")
        self.other = Path(tempfile.mkdtemp()) / folder.name  # the same, all values changed
        self.other.mkdir()
        changed = {name: tensor * 1.5 + 0.25 for name, tensor in self.checkpoint.items()}
        save_file(changed, self.other / "model.safetensors")
        (self.other / "config.json").write_text((folder / "config.json").read_text())
        self.updater = WeightUpdater(
            tp_rank=0,
            device="cpu",
            gpu_id=0,
            model_config=config,
            custom_weight_loaders={},
            get_model=lambda: model,
            update_model_fields=lambda *args, **kwargs: None,
            recapture_cuda_graph=lambda: None,
            get_model_runner=lambda: None,
        )

    def some(self) -> Named:
        """A few tensors of the checkpoint, with new values."""
        names = random.sample(sorted(self.checkpoint), random.randint(1, 3))
        return [(name, torch.randn_like(self.checkpoint[name])) for name in names]


# -- ways to update: they return whether it went well, as SGLang does --


def by_name(subject: Subject, named: Named) -> bool:
    return subject.updater.update_weights_from_tensor(named)[0]


def flattened(subject: Subject, named: Named) -> bool:
    bucket = FlattenedTensorBucket(named_tensors=named)
    given = {"flattened_tensor": bucket.get_flattened_tensor(), "metadata": bucket.get_metadata()}
    updater = subject.updater
    return updater.update_weights_from_tensor(given, load_format="flattened_bucket")[0]


def direct(subject: Subject, named: Named) -> bool:
    """By SGLang's own names, without a model's loader."""
    name, parameter = random.choice(list(subject.model.named_parameters()))
    new = [(name, torch.randn_like(parameter))]
    return subject.updater.update_weights_from_tensor(new, load_format="direct")[0]


def distributed(subject: Subject, named: Named) -> bool:
    """Between begin and end, as in a session."""
    subject.updater.begin_weight_update()
    good = subject.updater.load_weights_from_distributed(named)[0]
    subject.updater.end_weight_update(run_post_load=False)
    return good


def half(subject: Subject, named: Named) -> bool:
    """The second tensor of the list does not fit."""
    wrong = (named[0][0], torch.zeros(3, 5, 7))
    return not subject.updater.load_weights_from_distributed([named[0], wrong])[0]


def disk(subject: Subject, named: Named) -> bool:
    return subject.updater.update_weights_from_disk(str(subject.other), "auto")[0]


WAYS = (by_name, flattened, direct, distributed, half, disk)


def main(folders: list[Path]) -> None:
    updates = []
    for subject in loaded(folders):
        followed = WeightsDigest(subject.model)
        for way in WAYS:
            for _ in range(1 if way is disk else ROUNDS):
                updates.append(updated(subject, way, followed))
        updates.append(broadcast(subject, followed))
    print(json.dumps(updates))


def loaded(folders: list[Path]) -> list[Subject]:
    """The first as a server loads it, with our platform; others have their loader's precision."""
    flags = ("--device", "cpu", "--max-total-tokens", "200", "--max-running-requests", "1")
    args = prepare_server_args(["--model-path", str(folders[0]), *flags])
    args.resolve_once()
    publish(args, role="scheduler", ranks=SpawnRanks(world_rank=0, gpu_id=0))
    runner = load_model(args, PortArgs.init_new(args), 0, 0)[0].torch_runner
    subjects = [Subject(folders[0], runner.model, runner.model_config)]
    for folder in folders[1:]:
        config, device = ModelConfig(str(folder)), DeviceConfig("cpu")
        model = DefaultModelLoader(LoadConfig()).load_model(
            model_config=config, device_config=device
        )
        if folder == folders[-1]:
            use_mixed_precision(model)
        subjects.append(Subject(folder, model, config))
    return subjects


def updated(subject: Subject, way: Callable[..., bool], followed: WeightsDigest) -> dict:
    """Make an update as a scheduler makes it; what it changed, and what was hashed for it."""
    before = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    named = subject.some()
    with torch.inference_mode(), followed.watching():
        assert way(subject, named), way
    after = subject.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    return verdict(subject, way.__name__, changed, followed)


def broadcast(subject: Subject, followed: WeightsDigest) -> dict:
    """An operator that does not say that it writes; alone, it changes nothing."""
    name, parameter = next(iter(subject.model.named_parameters()))
    with torch.inference_mode(), followed.watching():
        dist.broadcast(parameter.data, src=0)
    return verdict(subject, "broadcast", {name}, followed)


def verdict(subject: Subject, way: str, changed: set[str], followed: WeightsDigest) -> dict:
    state = subject.model.state_dict()
    count = lambda names: sum({state[n].data_ptr(): state[n].nbytes for n in names}.values())  # noqa: E731
    return {
        "model": subject.name,
        "way": way,
        "followed": followed.refresh(),
        "anew": WeightsDigest(subject.model).value,
        "hashed_bytes": followed.hashed_bytes,
        "changed_bytes": count(changed),
        "bytes": count(state),
    }


if __name__ == "__main__":
    random.seed(0)
    torch.manual_seed(0)
    main(list(map(Path, sys.argv[1:])))
