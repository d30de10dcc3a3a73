"""The fingerprint of a scheduler process and the facts behind it. Both follow the weights."""

from typing import Any

from sglang.srt.runtime_context import get_serving

from llm42_sglang.core.receipts import fingerprint
from llm42_sglang.engine.weights.naming import Naming
from llm42_sglang.engine.weights.report import Report


class Identity:
    """What the receipts of this process say about it."""

    def __init__(self, facts: dict[str, Any], weights: Naming):
        self.weights = weights
        self._others = facts
        self._set_facts()

    def follow(self, everything: bool = False) -> bool:
        """Look at the weights after an update. Returns whether they are others now.

        everything: whether tensors may have been written that `weights.watching` cannot see.
        """
        before = self.fingerprint
        may_be_others = self.weights.refresh(everything)
        self._set_facts()
        return self.fingerprint != before or may_be_others

    def renamed(self) -> bool:
        """SGLang has another version for the weights. Returns whether the fingerprint trusts it."""
        before = self.fingerprint
        self._set_facts()
        return self.fingerprint != before

    def report(self, problem: str | None) -> Report:
        """Return what the front process must hear."""
        facts = self.facts
        return Report(self.fingerprint, facts["weights"], facts["weight_version"], problem)

    def _set_facts(self) -> None:
        named = {"weights": self.weights.name, "weight_version": get_serving().weight_version}
        self.facts = self._others | named
        self.fingerprint = fingerprint(self.facts)
