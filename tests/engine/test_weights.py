"""Weights of a running server do not change, whoever asks. No server."""

from types import SimpleNamespace

import pytest

from llm42_sglang.engine.start import weights


@pytest.fixture
def runner() -> SimpleNamespace:
    """As much of a ModelRunner as counts; its updater obeys."""
    obeys = lambda *args, **kwargs: (True, "done")  # noqa: E731
    updater = SimpleNamespace(update_weights_from_disk=obeys, load_weights_from_distributed=obeys)
    return SimpleNamespace(weight_updater=updater, check_weights=lambda *, action: action)


@pytest.mark.parametrize("way", ["update_weights_from_disk", "load_weights_from_distributed"])
def test_every_load_is_refused(runner, way):
    assert getattr(runner.weight_updater, way)("/other")[0]
    weights.freeze(runner)
    assert getattr(runner.weight_updater, way)("/other") == (False, weights.REFUSAL)
    assert runner.weight_updater.one_that_comes_with_another_sglang(load=1)[0] is False


def test_a_check_may_read_and_not_write(runner):
    weights.freeze(runner)
    assert runner.check_weights(action="snapshot") == "snapshot"
    with pytest.raises(ValueError, match="weights cannot change"):
        runner.check_weights(action="reset_tensors")
