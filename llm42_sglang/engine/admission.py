"""Admission: a prefill batch holds deterministic requests or ordinary ones, never both.

An ordinary batch keeps SGLang's forward and its free shape; a deterministic one is run by the
canonical lane. Everything else about admission stays SGLang's.
"""

from sglang.srt.managers.schedule_batch import Req
from sglang.srt.managers.schedule_policy import AddReqResult, PrefillAdder

from llm42_sglang.engine.request import DeterministicReq


class HomogeneousPrefillAdder(PrefillAdder):
    """Stops adding at the first request of the other kind; it goes first in a later batch."""

    def preempt_to_schedule(self, req: Req) -> bool:
        """Nobody is evicted for a request that this batch cannot take."""
        return not self._would_mix(req) and super().preempt_to_schedule(req)

    def add_one_req(self, req: Req, *args, **kwargs) -> AddReqResult:
        """As SGLang's, but OTHER (the budget is spent) when the kinds would mix."""
        if self._would_mix(req):
            return AddReqResult.OTHER
        if is_deterministic(req):
            req.take_grammar()  # compiled by now, and not yet part of any batch
        return super().add_one_req(req, *args, **kwargs)

    def _would_mix(self, req: Req) -> bool:
        admitted = self.can_run_list[:1]
        return any(is_deterministic(other) != is_deterministic(req) for other in admitted)


def is_deterministic(req: Req) -> bool:
    """Whether the request was admitted as deterministic."""
    return isinstance(req, DeterministicReq)
