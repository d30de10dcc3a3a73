"""Admission: a prefill batch holds deterministic requests or ordinary ones, never both.

An ordinary batch keeps SGLang's forward and its free shape; a deterministic one is run by the
canonical lane, and while ordinary requests decode it is cut to what one pass may hold then. Among
themselves deterministic requests are prefilled as SGLang prefills: first, and all that fit.
Everything else about admission stays SGLang's.
"""

from sglang.srt.managers.schedule_batch import Req, ScheduleBatch
from sglang.srt.managers.schedule_policy import AddReqResult, PrefillAdder

from llm42_sglang.core.fairness import PrefillBatch, Turn
from llm42_sglang.engine.loop.request import DeterministicReq


class HomogeneousPrefillAdder(PrefillAdder):
    """Asks `core.fairness` whose turn it is. A batch that goes on with a prompt's next chunk passes
    nobody over: the chunk has held the others up already."""

    rem_chunk_tokens: int | None

    def __init__(self, *args, slots: int, overtaking: bool, **kwargs):
        super().__init__(*args, **kwargs)
        self.slots = slots  # of a pass
        self.overtaking = overtaking
        self.passed_over = 0

    def preempt_to_schedule(self, req: Req) -> bool:
        """Nobody is evicted for a request that this batch cannot take."""
        mixes = self._batch().kind not in (None, is_deterministic(req))
        return not mixes and super().preempt_to_schedule(req)

    def add_chunked_req(self, req: Req) -> Req | None:
        """As SGLang's; of a deterministic prompt, one pass while ordinary requests decode."""
        self.overtaking = False
        if is_deterministic(req):
            self._keep_to_one_pass()
        return super().add_chunked_req(req)

    def add_one_req(self, req: Req, *args, **kwargs) -> AddReqResult:
        """As SGLang's, but CONTINUE (the next one, please) or OTHER (no more) when the kinds would
        mix, and OTHER when the pass is full; `Scheduler._get_new_batch_prefill_raw` obeys."""
        deterministic, batch = is_deterministic(req), self._batch()
        full = deterministic and batch.kind is not False and not self._keep_to_one_pass()
        turn = batch.turn(deterministic, self._fits_whole(req))
        if turn is Turn.PASS_OVER:
            self.passed_over += 1
            return AddReqResult.CONTINUE
        if full or turn is Turn.END:
            return AddReqResult.OTHER
        if deterministic:
            req.take_grammar()  # compiled by now, and not yet part of any batch
        return super().add_one_req(req, *args, **kwargs)

    def _batch(self) -> PrefillBatch:
        kind = next(map(is_deterministic, self.can_run_list), None)
        return PrefillBatch(kind, self.passed_over, self.overtaking)

    def _keep_to_one_pass(self) -> bool:
        """Lower the budget of tokens to the slots that are left; whether there are any.

        Nothing is cut where no ordinary request has to wait, or where SGLang cuts no prompts.
        """
        if not ordinary_decodes(self.running_batch) or self.rem_chunk_tokens is None:
            return True
        left = self.slots - sum(map(self._pages, self.can_run_list))
        self.rem_chunk_tokens = min(self.rem_chunk_tokens, max(0, left) * self.page_size)
        return left > 0

    def _fits_whole(self, req: Req) -> bool:
        if self.rem_chunk_tokens is None:
            return True
        tokens = len(req.full_untruncated_fill_ids) - req.prefix_len
        return -(-tokens // self.page_size) * self.page_size <= self.rem_chunk_tokens

    def _pages(self, req: Req) -> int:
        """Pages that a request of this batch runs, [prefix_len, extend_end)."""
        return -(-req.extend_end // self.page_size) - req.prefix_len // self.page_size


def is_deterministic(req: Req | None) -> bool:
    """Whether the request was admitted as deterministic."""
    return isinstance(req, DeterministicReq)


def ordinary_decodes(running: ScheduleBatch | None) -> bool:
    """Whether an ordinary stream is under way, that would wait while the lane runs.

    One that has its first token and no other is not, whatever waits: what comes in one burst is
    prefilled before any of it decodes, as stock SGLang does, or whoever comes first would decode
    through all the others' prompts.
    """
    if running is None:
        return False
    return any(not is_deterministic(req) and len(req.output_ids) > 1 for req in running.reqs)
