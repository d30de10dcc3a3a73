"""Weights that cannot be named never serve under the old name, nor do those that give other bits.

No server.
"""

from types import SimpleNamespace

import pytest
import torch
from sglang.srt.managers.io_struct import (
    UpdateWeightFromDiskReqInput,
    UpdateWeightFromDiskReqOutput,
)

from llm42_sglang.engine.names import RECHECK_FAILED
from llm42_sglang.engine.service import Service
from llm42_sglang.engine.weights import identity, naming, updates
from llm42_sglang.engine.weights.naming import ByContent

REQUEST = UpdateWeightFromDiskReqInput(model_path="/new")


@pytest.fixture
def made(monkeypatch) -> updates.WeightUpdates:
    """As much of a scheduler as an update touches, with a model of one layer."""
    serving = SimpleNamespace(weight_version="v1")
    for module in (naming, identity, updates):
        monkeypatch.setattr(module, "get_serving", lambda: serving)
    monkeypatch.setattr(torch.distributed, "barrier", lambda group: None)
    nothing = lambda *args, **kwargs: None  # noqa: E731
    scheduler = SimpleNamespace(
        _engine_paused=True,
        weight_updater=SimpleNamespace(tp_cpu_group=None),
        running_batch=None,
        not_ended=lambda batches: [],
        tree_cache=SimpleNamespace(evict=nothing, evictable_size=lambda: 0),
        **dict.fromkeys(("pause_generation", "end_retracted", "end_all", "flush_cache"), nothing),
        record_weight_version_change=nothing,
    )
    ranks = SimpleNamespace(gather=lambda mine: [mine])
    runner = SimpleNamespace(model=torch.nn.Linear(2, 2))
    mine = identity.Identity({}, ByContent(runner, ranks))
    return updates.WeightUpdates(scheduler, mine, Service(), ranks, recheck=lambda: None)


def load(made: updates.WeightUpdates):
    def from_disk(request):
        made.identity.weights._digest._model.weight.data[0, 0] += 1
        return UpdateWeightFromDiskReqOutput(success=True, message="done")

    return made.run(from_disk, REQUEST)


def test_the_service_is_off_while_weights_have_no_name_and_live_when_they_have(made, monkeypatch):
    before = made.identity.fingerprint

    def fails(everything):
        raise torch.OutOfMemoryError("no room to hash")

    with monkeypatch.context() as patch:
        patch.setattr(made.identity.weights, "refresh", fails)
        assert not load(made).success
        assert made.identity.fingerprint == before and not made.service.live
    assert load(made).success
    assert made.service.live and made.identity.fingerprint != before


def test_weights_whose_passes_give_other_bits_end_the_service_for_good(made):
    """The next update is a good one; what has failed may have been the machine."""
    made.recheck = lambda: "assumption A2 (other slots)"
    assert load(made).success  # SGLang serves them
    assert made.service.problem == RECHECK_FAILED.format("assumption A2 (other slots)")
    made.recheck = lambda: None
    assert load(made).success
    assert not made.service.live
