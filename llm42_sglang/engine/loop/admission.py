"""Admission: a prefill batch holds deterministic requests or ordinary ones, never both.

An ordinary batch keeps SGLang's forward and its free shape. A deterministic batch is run by the
canonical lane. While ordinary requests decode, it is cut to what one pass can hold. Everything else
about admission is SGLang's.
"""

from sglang.srt.managers.schedule_batch import Req, ScheduleBatch
from sglang.srt.managers.schedule_policy import AddReqResult, PrefillAdder

from llm42_sglang.core.fairness import PrefillBatch, Turn
from llm42_sglang.engine.loop.claim import ClaimReq
from llm42_sglang.engine.loop.request import DeterministicReq


class HomogeneousPrefillAdder(PrefillAdder):
    """SGLang's adder, which asks `core.fairness` whose turn it is. A batch that goes on with the
    next chunk of a prompt passes nobody over, because that prompt has held them up already."""

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
        """As SGLang's. While ordinary requests decode, a deterministic chunk is one pass."""
        self.overtaking = False
        if is_deterministic(req):
            self._keep_to_one_pass(req)
        return super().add_chunked_req(req)

    def add_one_req(self, req: Req, *args, **kwargs) -> AddReqResult:
        """As SGLang's, but a request is passed over (CONTINUE) or ends the batch (OTHER) where the
        kinds would mix, and ends it where the pass is full.

        `Scheduler._get_new_batch_prefill_raw` obeys."""
        deterministic, batch = is_deterministic(req), self._batch()
        full = deterministic and batch.kind is not False and not self._keep_to_one_pass(req)
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

    def _keep_to_one_pass(self, req: Req) -> bool:
        """Lower the batch's budget of tokens to the slots that are left. Returns whether there are
        any.

        Nothing is cut where no ordinary request has to wait, or where SGLang cuts no prompts. For a
        claim, whose every row is drawn from, nobody has to wait longer than for a pass.
        """
        running = self.running_batch
        decodes = running is not None and bool(running.reqs)
        waits = ordinary_decodes(running) or (decodes and isinstance(req, ClaimReq))
        if not waits or self.rem_chunk_tokens is None:
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
        """How many pages the request runs in this batch, over rows [prefix_len, extend_end)."""
        return -(-req.extend_end // self.page_size) - req.prefix_len // self.page_size


def longest_prompt(pool: int, page_size: int) -> int:
    """Tokens of the longest prompt that SGLang's adder lets into an empty pool. pool: tokens.

    SGLang refuses prompts that are as long as the pool, and its adder reserves a page for each
    request. So a prompt in between would wait for ever, and everybody behind it.
    """
    return pool - page_size - 1


def is_deterministic(req: Req | None) -> bool:
    """Whether the request was admitted as deterministic."""
    return isinstance(req, DeterministicReq)


def ordinary_decodes(running: ScheduleBatch | None) -> bool:
    """Whether an ordinary request decodes, and would wait while a pass runs.

    A request with a single token does not count. What comes in one burst is prefilled before any of
    it decodes, as in stock SGLang. Otherwise the first of a burst would decode through the prompts
    of all others.
    """
    if running is None:
        return False
    return any(not is_deterministic(req) and len(req.output_ids) > 1 for req in running.reqs)
