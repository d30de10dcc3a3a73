"""Verification between SGLang's steps: who rides in a canonical pass, and what follows from it.

    before a step   verify whom the policy chooses: commit what agrees, roll back what does not
    at its launch   a step of a certified size is canonical for every request without candidates:
                    what it draws is committed, and nothing here is needed for it
    in a prefill    due pages take the slots that its last pass would run empty
    after a prefill ordinary requests that decode are owed a step before a deterministic prompt,
                    and after a deterministic one before any

With overlap scheduling the results of the last step may not have been seen yet when the next one
is planned. Page ends and length limits are foreseen by counting; the loop is drained only when a
pass is to run, or when a request cannot propose its next token without having seen the last one.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from sglang.srt.managers.overlap_utils import RelayPayload
from sglang.srt.managers.schedule_batch import Req, ScheduleBatch
from sglang.srt.managers.scheduler import Scheduler

from llm42_sglang.core.config import Config
from llm42_sglang.core.policy import Due, LanePolicy
from llm42_sglang.engine.loop.admission import is_deterministic
from llm42_sglang.engine.loop.lane import CanonicalLane, Verified
from llm42_sglang.engine.loop.request import DeterministicReq, Outlook

logger = logging.getLogger(__name__)

Batches = Sequence[ScheduleBatch]


class Outcome(NamedTuple):
    """What a verification decided; the request's own state has moved already."""

    req: DeterministicReq
    run: list[int]  # tokens to commit, in order


class Verifier:
    """One scheduler's lane and policy."""

    def __init__(self, scheduler: Scheduler, lane: CanonicalLane, config: Config):
        self.scheduler = scheduler
        self.lane = lane
        self.page = config.page
        self.policy = LanePolicy(config.group, wait_steps=config.wait, run_ahead=config.wait)
        self._steps = 0  # decode steps planned
        self._passes = 0  # for verification, since the last of them
        self._unsettled: list[Outcome] = []  # of pages that rode in prefill passes
        self._ended = False  # deterministic service
        self._prefilled = False  # a prompt, since the last decode step
        self._prefilled_canonically = False

    # -- What the scheduler calls --

    def between_steps(self, running: ScheduleBatch, last: ScheduleBatch | None) -> None:
        """Verify before the next step is planned. `last` may have been prefilled, not merged."""
        batches = [running] if last is None or last is running else [running, last]
        if not self._ended:
            self._verify(batches)

    def planned(self, batch: ScheduleBatch | None) -> None:
        """What comes next; None for nothing."""
        if batch is not None and batch.forward_mode.is_decode():
            self._steps += 1
            self._passes = 0
            self._prefilled = self._prefilled_canonically = False

    def launching(self, batch: ScheduleBatch) -> bool:
        """A decode step with deterministic requests in it is about to run; is it canonical?"""
        certified = self._certified(len(batch.reqs))
        for req in batch.reqs:
            if isinstance(req, DeterministicReq):
                req.launch(certified)
        return certified

    def owes_decode(self, following: Req | None) -> bool:
        """Whether ordinary requests that decode get a step before this prompt."""
        return self._prefilled_canonically or (self._prefilled and is_deterministic(following))

    def prefill(self, batch: ScheduleBatch) -> list[int]:
        """The forward of a deterministic prefill batch: one next token per request."""
        self._prefilled_canonically = True
        tokens, verified = self.lane.prefill(batch, self._passengers)
        self._unsettled += map(self._judge, verified)
        self.lane.forward.ranks.note(tokens)
        self.lane.forward.ranks.require_agreement()  # or nobody commits
        return tokens

    def launched(self, batch: ScheduleBatch) -> None:
        """SGLang has launched the batch: settle what rode in a prefill's passes."""
        if batch.forward_mode.is_extend():
            self._prefilled = True
            riders, self._unsettled = self._unsettled, []
            self._settle([self.scheduler.running_batch], riders)

    # -- Passes --

    def _verify(self, batches: Batches) -> None:
        """All passes that are due, on all results that they need."""
        riders = self._riders(batches)
        if self._queue and (riders or self.lane.audit.failed or _looks_back(batches)):
            self._take_results()
            riders = self._riders(batches)
        if self.lane.audit.failed:  # since the last step
            self._end(batches)
            return
        while riders:
            self._passes += 1
            verified = self.lane.verify(riders)
            if self.lane.audit.failed:
                self._end(batches)
                return
            outcomes = list(map(self._judge, verified))
            self.lane.forward.ranks.require_agreement()  # or nobody commits
            self._settle(batches, outcomes)
            riders = self._riders(batches)

    def _end(self, batches: Batches) -> None:
        """An audit has failed."""
        self._ended = True
        self.scheduler.end_deterministic_service(batches)

    # -- Who rides --

    def _riders(self, batches: Batches) -> list[DeterministicReq]:
        """Who rides in the next pass; with steps in flight, who will once they are seen."""
        outlooks = list(self._outlooks(batches))
        due = [self._due(*one) for one in outlooks if one[1].due]
        return self.policy.choose(due, self._passes, len(outlooks))

    def _certified(self, size: int) -> bool:
        """Whether a decode step of so many requests gives canonical rows."""
        return size in self.lane.forward.step_sizes

    def _judge(self, verified: Verified) -> Outcome:
        req = verified.req
        waited, before = req.waited(self._steps), len(req.track.candidates)
        action = req.verified(verified.rows)
        judged = before - len(req.track.candidates)
        self.lane.forward.ranks.note(req.rid, action.commit, action.dropped)
        self.lane.metrics.verified(waited, judged, len(action.commit), action.dropped)
        if action.dropped:
            logger.debug(
                "llm42: rollback rid=%s dropped=%d committed=%d position=%d",
                *(req.rid, action.dropped, len(action.commit), req.track.committed_len),
            )
        return Outcome(req, list(action.commit))

    def _passengers(self, free: int) -> list[DeterministicReq]:
        """Who takes the spare slots of a prefill pass; nobody while results are in flight, nor
        after a failed audit."""
        if not free or self._queue or self.lane.audit.failed:
            return []
        outlooks = self._outlooks([self.scheduler.running_batch])
        return self.policy.fill([self._due(*one) for one in outlooks if one[1].due], free)

    def _outlooks(self, batches: Batches) -> Iterator[tuple[DeterministicReq, Outlook]]:
        """The deterministic requests that decode and have candidates, each once."""
        reqs = {id(req): req for batch in batches for req in batch.reqs}.values()
        certified = self._certified(len(reqs))
        for req in reqs:
            if isinstance(req, DeterministicReq):
                outlook = req.outlook(self._steps, certified)
                if outlook is not None:
                    yield req, outlook

    def _due(self, req: DeterministicReq, outlook: Outlook) -> Due[DeterministicReq]:
        ahead = self.policy.run_ahead if outlook.at_limit else outlook.ahead
        return Due(req, ahead, outlook.waited, outlook.suspected)

    # -- What follows --

    def _settle(self, batches: Batches, outcomes: Sequence[Outcome]) -> None:
        """Commit what agreed, roll back what did not."""
        if not outcomes:
            return
        for batch in batches:
            index = {id(req): i for i, req in enumerate(batch.reqs)}
            here = [outcome for outcome in outcomes if id(outcome.req) in index]
            if here:
                self._rewind(batch, here, [index[id(outcome.req)] for outcome in here])
        reqs, runs = zip(*outcomes, strict=True)
        self.scheduler.batch_result_processor.commit(reqs, list(runs))

    def _rewind(self, batch: ScheduleBatch, outcomes: list[Outcome], indices: list[int]) -> None:
        """Make the batch go on from what was committed and kept."""
        at = torch.tensor(indices)
        lengths = torch.tensor([outcome.req.track.kv_len for outcome in outcomes])
        for name in ("seq_lens", "seq_lens_cpu", "orig_seq_lens"):
            # New tensors, as SGLang does: an earlier step may still read the old ones.
            old = getattr(batch, name)
            new = old.index_copy(0, at.to(old.device), lengths.to(old.device, old.dtype))
            setattr(batch, name, new)
        batch.seq_lens_sum = None
        for outcome in outcomes:
            self._rewind_kv(outcome.req)
        inputs = [outcome.req.next_input(outcome.run) for outcome in outcomes]
        rows = batch.req_pool_indices[at.to(batch.device)]
        # Where `resolve_forward_inputs` finds the next step's.
        payload = RelayPayload(bonus_tokens=torch.tensor(inputs, device=batch.device))
        self.scheduler.future_map.stash(rows, payload)

    def _rewind_kv(self, req: DeterministicReq) -> None:
        """Whole pages past the known tokens go back; within a page the next steps write again."""
        kv, kv_len = req.kv, req.track.kv_len  # SGLang's ReqKvInfo
        whole_end = -(-kv_len // self.page) * self.page
        if kv.kv_allocated_len > whole_end:  # [whole_end, kv_allocated_len) was decoded ahead
            row = self.scheduler.req_to_token_pool.req_to_token[kv.req_pool_idx]
            ahead = row[whole_end : kv.kv_allocated_len].to(torch.int64)
            self.scheduler.token_to_kv_pool_allocator.free(ahead)
        kv.kv_committed_len = kv.kv_allocated_len = kv_len

    # -- Overlap scheduling --

    @property
    def _queue(self) -> deque:
        """Steps launched and not yet processed: (batch, result); none without overlap. See
        `Scheduler.event_loop_overlap`."""
        return getattr(self.scheduler, "result_queue", None) or deque()

    def _take_results(self) -> None:
        """Process what is in flight; the loop then finds nothing left of the last step."""
        while self._queue:
            self.scheduler.process_batch_result(*self.scheduler.result_queue.popleft())
        self.scheduler.last_batch = None


def _looks_back(batches: Batches) -> bool:
    """Whether somebody cannot draw its next token without having seen the last one."""
    return any(
        isinstance(req, DeterministicReq) and not req.finished() and req.chooser.looks_back
        for batch in batches
        for req in batch.reqs
    )
