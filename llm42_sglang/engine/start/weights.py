"""The weights of a running server cannot be changed.

The certificate, the receipts and the namespace in the radix cache belong to the weights that were
loaded at start-up. They cannot follow an update yet, so updates are refused.
"""

from dataclasses import fields
from functools import partial

from sglang.srt.model_executor.model_runner import ModelRunner
from sglang.srt.model_executor.model_runner_components.weight_updater import WeightUpdater

REFUSAL = "llm42: weights cannot change while deterministic requests are served; restart the server"


class FrozenWeights(WeightUpdater):
    """Refuses every update, in the way in which SGLang reports one that failed."""

    def update_weights_from_disk(self, *args, **kwargs) -> tuple[bool, str]:
        return False, REFUSAL

    def update_weights_from_tensor(self, *args, **kwargs) -> tuple[bool, str]:
        return False, REFUSAL

    def update_weights_from_ipc(self, *args, **kwargs) -> tuple[bool, str]:
        return False, REFUSAL

    def load_weights_from_distributed(self, *args, **kwargs) -> tuple[bool, str]:
        return False, REFUSAL

    def begin_weight_update(self) -> None:
        """Do nothing: the load that follows will be refused."""

    def end_weight_update(self, *, run_post_load: bool) -> None:
        """Do nothing: no weights were loaded."""


def freeze(runner: ModelRunner) -> None:
    """Refuse every later change of this runner's weights."""
    updater = runner.weight_updater
    given = {field.name: getattr(updater, field.name) for field in fields(updater) if field.init}
    runner.weight_updater = FrozenWeights(**given)
    runner.check_weights = partial(_check_without_reset, runner.check_weights)


def _check_without_reset(original, *, action: str, **kwargs):
    """Let /weights_checker look at the weights, but not overwrite them."""
    if action == "reset_tensors":
        raise ValueError(REFUSAL)  # SGLang answers the request with it
    return original(action=action, **kwargs)
