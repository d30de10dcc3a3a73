"""The weights of a running server cannot be changed.

The certificate, the receipts and the namespace in the radix cache belong to the weights that were
loaded at start-up. They cannot follow an update yet, so updates are refused.
"""

from functools import partial
from typing import Any

from sglang.srt.model_executor.model_runner import ModelRunner

REFUSAL = "llm42: weights cannot change while deterministic requests are served; restart the server"


class FrozenWeights:
    """Stands in for SGLang's WeightUpdater. It refuses whatever it is told, in the way in which
    SGLang reports a load that failed."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: (False, REFUSAL)


def freeze(runner: ModelRunner) -> None:
    """Refuse every later change of this runner's weights."""
    assert hasattr(runner, "weight_updater")  # as ModelRunner.init_weight_updater names it
    runner.weight_updater = FrozenWeights()
    runner.check_weights = partial(_check_without_reset, runner.check_weights)


def _check_without_reset(original, *, action: str, **kwargs):
    """Let /weights_checker look at the weights, but not overwrite them."""
    if action == "reset_tensors":
        raise ValueError(REFUSAL)  # SGLang answers the request with it
    return original(action=action, **kwargs)
