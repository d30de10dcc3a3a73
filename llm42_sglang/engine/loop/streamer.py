"""Streams carry committed tokens only, and a finished response carries its receipt."""

from dataclasses import dataclass
from typing import ClassVar

from sglang.srt.managers.schedule_batch import Req
from sglang.srt.managers.scheduler_components.output_streamer import SchedulerOutputStreamer

from llm42_sglang.core.receipts import REFUTED
from llm42_sglang.engine.loop.claim import ClaimReq
from llm42_sglang.engine.loop.receipt import receipt_of
from llm42_sglang.engine.loop.request import DeterministicReq
from llm42_sglang.engine.names import PROBLEM_KEY, RECEIPT_KEY
from llm42_sglang.engine.service import Service


@dataclass(kw_only=True)
class DeterministicOutputStreamer(SchedulerOutputStreamer):
    """SGLang's streamer. It says nothing for steps that committed nothing, and adds receipts.

    When the service has ended it says so with everybody's output: the front process must hear at
    once.
    """

    service: Service
    has_additional_customized_info: ClassVar[bool] = True

    def _stream_output_generation(self, reqs: list[Req], *args, **kwargs) -> None:
        if self.service.problem is not None:
            _revoke_answers(reqs, self.service.problem)
        super()._stream_output_generation(list(filter(_has_news, reqs)), *args, **kwargs)

    def build_additional_customized_info(self, reqs: list[Req]) -> dict[str, list]:
        """One list per request, as SGLang wants it, with the receipt or with nothing."""
        info: dict[str, list] = {RECEIPT_KEY: [_receipts(req) for req in reqs]}
        if not self.service.live:
            info[PROBLEM_KEY] = [[self.service.problem] for _ in reqs]
        return info

    def is_request_level_customized_info_key(self, key: str) -> bool:
        """Whether a key belongs to the request, not to each token."""
        return key in (RECEIPT_KEY, PROBLEM_KEY)


def _revoke_answers(reqs: list[Req], problem: str) -> None:
    """While the service is off nobody gets an answer: not who ended in the step that ended it, and
    not who ends with its prompt."""
    for req in reqs:
        is_answer = req.finished() and not req.finished_output
        if isinstance(req, DeterministicReq) and is_answer and not req.refused:
            req.withdraw(problem)
            req.finished_reason = req.to_finish  # an error in place of the answer


def _has_news(req: Req) -> bool:
    if not isinstance(req, DeterministicReq) or req.finished():
        return True
    return len(req.output_ids) > req.send_token_offset


def _receipts(req: Req) -> list[dict]:
    if not isinstance(req, DeterministicReq) or not req.finished() or req.refused:
        return []
    if isinstance(req, ClaimReq) and req.refuted:
        return [{"fingerprint": req.lineage.fingerprint, REFUTED: req.refutation()}]
    return [receipt_of(req).as_dict()]
