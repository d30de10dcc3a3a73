"""Verification between SGLang's steps: who rides in a canonical pass, and what follows from it.

    before a step   verify whom the policy chooses: commit what agrees, roll back what does not
    in a step       full pages ride in its forward, where it can carry them; before the next one its
                    results are taken, and the pages judged
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
from sglang.srt.model_executor.model_runner import ModelRunnerOutput

from llm42_sglang.core.config import Config
from llm42_sglang.core.policy import Due, LanePolicy
from llm42_sglang.engine.admission import is_deterministic
from llm42_sglang.engine.canonical import DecodeRows
from llm42_sglang.engine.carrier import Carry
from llm42_sglang.engine.lane import CanonicalLane, Verified
from llm42_sglang.engine.request import DeterministicReq, Outlook

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
        self.policy = LanePolicy(config.group, config.wait, config.run_ahead)
        self._steps = 0  # decode steps planned
        self._passes = 0  # for verification, since the last of them
        self._unsettled: list[Outcome] = []  # of pages that rode in prefill passes
        self._boarding: list[DeterministicReq] = []  # whose pages ride in the next decode step
        self._carried: list[Verified] = []  # pages that rode in the last one, not judged yet
        self._ended = False  # deterministic service
        self._prefilled = False  # a prompt, since the last decode step
        self._prefilled_canonically = False

    # -- What the scheduler calls --

    def between_steps(self, running: ScheduleBatch, last: ScheduleBatch | None) -> None:
        """Verify before the next step is planned. `last` may have been prefilled, not merged."""
        batches = [running] if last is None or last is running else [running, last]
        self._boarding = []
        if self._ended:
            return
        before = self._passes
        self._verify(batches)
        if self._passes > before:
            self.scheduler.output_streamer.release()
        self._boarding = [] if self._ended else self._boarders(batches)

    def planned(self, batch: ScheduleBatch | None) -> None:
        """What comes next; None for nothing."""
        if batch is None:
            self.scheduler.output_streamer.release()
        elif batch.forward_mode.is_decode():
            self._steps += 1
            self._passes = 0
            self._prefilled = self._prefilled_canonically = False

    def boarded(self, batch: ScheduleBatch) -> Carry | None:
        """How the forward of this decode step is run; None for SGLang's way."""
        seats = self._seats([batch])
        riders = [req for req in self._boarding if req in batch.reqs][:seats]
        self._boarding = []

        def carry(decode: DecodeRows) -> ModelRunnerOutput:
            self._carried, run = self.lane.carry(riders, decode)
            return run

        return carry if riders else None

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
        self.scheduler.output_streamer.release()
        if batch.forward_mode.is_extend():
            self._prefilled = True
            riders, self._unsettled = self._unsettled, []
            self._settle([self.scheduler.running_batch], riders)

    def in_flight(self, req: DeterministicReq) -> int:
        """Decode steps of the request whose tokens have not been seen yet."""
        return sum(batch.forward_mode.is_decode() and req in batch.reqs for batch, _ in self._queue)

    # -- Passes --

    def _verify(self, batches: Batches) -> None:
        """All passes that are due, on all results that they need."""
        if self._results_wanted(batches):
            self._take_results()
        if self.lane.audit.failed:  # in the last step
            self._end(batches)
            return
        self._judge_carried(batches)
        while riders := self._riders(batches):
            self._passes += 1
            verified = self.lane.verify(riders)
            if self.lane.audit.failed:
                self._end(batches)
                return
            outcomes = list(map(self._judge, verified))
            self.lane.forward.ranks.require_agreement()  # or nobody commits
            self._settle(batches, outcomes)

    def _end(self, batches: Batches) -> None:
        """An audit has failed."""
        self._ended = True
        self.scheduler.end_deterministic_service(batches)

    def _judge_carried(self, batches: Batches) -> None:
        """Of the pages that rode in the last decode step, now that its results are in."""
        carried, self._carried = self._carried, []
        # An abort or a retraction may have come in between.
        going_on = [one for one in carried if one.req.track.decoding and not one.req.finished()]
        if going_on:
            outcomes = list(map(self._judge, going_on))
            self.lane.forward.ranks.require_agreement()  # or nobody commits
            self._settle(batches, outcomes)

    # -- Who rides --

    def _riders(self, batches: Batches) -> list[DeterministicReq]:
        """Who rides in the next pass; with steps in flight, who will once they are seen."""
        outlooks = list(self._outlooks(batches))
        due = [self._due(*one) for one in outlooks if one[1].due]
        return self.policy.choose(due, self._passes, len(outlooks), self._seats(batches))

    def _boarders(self, batches: Batches) -> list[DeterministicReq]:
        """Whose pages ride in the next step, if it decodes; with steps in flight, whose would."""
        if not (seats := self._seats(batches)):
            return []
        due = [self._due(*one) for one in self._outlooks(batches) if one[1].due]
        return self.policy.board(due, seats)

    def _seats(self, batches: Batches) -> int:
        """Pages that the next decode step can carry: for the sake of ordinary requests, which would
        wait for a pass; where all are deterministic, a full pass costs less for each page.

        None where hidden states are wanted, for a pass keeps none.
        """
        reqs = {id(req): req for batch in batches for req in batch.reqs}.values()
        if all(map(is_deterministic, reqs)) or any(req.return_hidden_states for req in reqs):
            return 0
        return self.lane.forward.seats_beside(len(reqs))

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
        """The deterministic requests that decode, each once."""
        for req in {id(req): req for batch in batches for req in batch.reqs}.values():
            if isinstance(req, DeterministicReq):
                outlook = req.outlook(self.in_flight(req), self._steps)
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

    def _results_wanted(self, batches: Batches) -> bool:
        """Whether the loop must drain before it goes on."""
        if not self._queue:
            return False
        if self._carried or self.lane.audit.failed:
            return True
        looking_back = (
            isinstance(req, DeterministicReq) and not req.finished() and req.chooser.looks_back
            for batch in batches
            for req in batch.reqs
        )
        return any(looking_back) or bool(self._riders(batches)) or bool(self._boarders(batches))

    def _take_results(self) -> None:
        """Process what is in flight; the loop then finds nothing left of the last step."""
        # Elsewhere a forward is only launched: the next tokens come one step after the pass, and
        # the longest gap is the same without holding anything.
        if self.scheduler.device == "cpu":
            self.scheduler.output_streamer.hold()
        while self._queue:
            self.scheduler.process_batch_result(*self.scheduler.result_queue.popleft())
        self.scheduler.last_batch = None
