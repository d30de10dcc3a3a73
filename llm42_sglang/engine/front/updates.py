"""Hooks in the front process: it learns from the answer to a weight update what has changed."""

import asyncio
from typing import Any

from sglang.srt.managers.io_struct import UpdateWeightVersionReqInput

from llm42_sglang.core.receipts import fingerprint
from llm42_sglang.engine.front.gatekeeper import Gatekeeper
from llm42_sglang.engine.hooks import around
from llm42_sglang.engine.weights.report import VERSION_MARK, Report, reports_in

_CONTROL = "sglang.srt.managers.tokenizer_control_mixin.TokenizerControlMixin"
_LOADS = (
    "update_weights_from_tensor,update_weights_from_distributed,update_weights_from_ipc,"
    "begin_weight_update,end_weight_update"
)


class UpdateHooks:
    """The hooks. The gatekeeper keeps the fingerprint and its facts."""

    def __init__(self, gate: Gatekeeper):
        self.gate = gate
        self._one_at_a_time = asyncio.Lock()

    @around(
        "sglang.srt.managers.tokenizer_manager.TokenizerManager.update_weights_from_disk",
        "have the front process follow the weights",
        serving_only=True,
    )
    @around(
        f"{_CONTROL}.{{{_LOADS}}}", "have the front process follow the weights", serving_only=True
    )
    async def updated(self, original, manager, obj, request=None) -> tuple:
        """An update has been tried. The answer's second entry is a message with reports."""
        async with self._one_at_a_time:  # SGLang keeps one answer to an update from disk
            answer = await original(manager, obj, request)
            self.learn([*reports_in(answer[1])])
        return answer

    @around(f"{_CONTROL}.update_weight_version", "show the weight version among the facts")
    async def renamed(self, original, manager, obj: UpdateWeightVersionReqInput) -> Any:
        """The weights have another version, and are what they were."""
        answer = await original(manager, obj)
        proof = self.gate.proof
        if facts := proof.get("facts"):
            by_version = str(facts["weights"]).startswith(VERSION_MARK)
            weights = VERSION_MARK + obj.new_version if by_version else facts["weights"]
            self._put(weights, obj.new_version)
        return answer

    def learn(self, reports: list[Report]) -> None:
        """Take over what the schedulers report, one for each replica. None: SGLang has refused."""
        if not reports or not self.gate.proof:  # without proof there is a problem from the start
            return
        report = reports[0]
        self._put(report.weights, report.weight_version)
        problems = [each.problem for each in reports if each.problem]
        if {each.fingerprint for each in reports} != {self.gate.fingerprint}:
            problems.append("after a weight update the replicas have different fingerprints")
        self.gate.problem = problems[0].removeprefix("llm42: ") if problems else None

    def _put(self, weights: str, version: str) -> None:
        facts = self.gate.proof["facts"] | {"weights": weights, "weight_version": version}
        self.gate.proof = {**self.gate.proof, "fingerprint": fingerprint(facts), "facts": facts}
