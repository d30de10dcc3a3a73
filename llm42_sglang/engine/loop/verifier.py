"""Verification between SGLang's steps: whose pages run in a canonical pass, and what follows.

    before a step   plan: look at the batches once, and choose the pages to verify
                    run: verify them in one pass
                    settle: commit what agrees, and roll back what does not
                    and so on, until the policy wants no other pass
    at its launch   a step of a certified size is canonical for every request without candidates;
                    what it draws is committed, and no pass follows
    in a prefill    pages to verify take the free slots of its last pass

With overlap scheduling, the results of the last step may not have been seen when the next one is
planned. Page ends and length limits are foreseen by counting. Results are waited for only when a
pass is to run, or when a request draws its next token by the last one.
"""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from sglang.srt.managers.overlap_utils import RelayPayload
from sglang.srt.managers.schedule_batch import ScheduleBatch
from sglang.srt.managers.scheduler import Scheduler

from llm42_sglang.core.config import Config
from llm42_sglang.core.fairness import SinceStep
from llm42_sglang.core.policy import Due, LanePolicy
from llm42_sglang.engine.loop.drafting import Drafting
from llm42_sglang.engine.loop.lane import CanonicalLane, PageRows
from llm42_sglang.engine.loop.outlook import Outlook
from llm42_sglang.engine.loop.request import DeterministicReq

logger = logging.getLogger(__name__)

Batches = Sequence[ScheduleBatch]


class Decision(NamedTuple):
    """What a verification decided. The request's own state has moved already."""

    req: DeterministicReq
    run: list[int]  # tokens to commit, in order


@dataclass(frozen=True, slots=True)
class View:
    """The deterministic requests that decode, in one look between two steps."""

    due: list[Due[DeterministicReq]]  # pages to verify
    undecided: int  # requests with candidates, the due ones included
    waits_for_results: bool  # somebody draws its next token by the last one, which is in flight


class Verifier:
    """Verifies for one scheduler."""

    def __init__(
        self,
        scheduler: Scheduler,
        lane: CanonicalLane,
        config: Config,
        drafting: Drafting | None = None,
    ):
        self.scheduler = scheduler
        self.lane = lane
        self.service = lane.service
        self.page = config.page
        self.policy = LanePolicy(config.group, wait_steps=config.wait, run_ahead=config.wait)
        self.drafting = drafting
        self.since = SinceStep()
        self._of_prefill: list[Decision] = []  # on pages that were verified in its passes

    # -- What the scheduler calls --

    def between_steps(self, running: ScheduleBatch, last: ScheduleBatch | None) -> None:
        """Verify before the next step is planned. `last`: a batch that may not be merged yet."""
        batches = [running] if last is None or last is running else [running, last]
        while reqs := self._plan(batches) or self._draft(batches):
            self._settle(batches, self._run(reqs))

    def planned(self, batch: ScheduleBatch | None) -> None:
        """SGLang has planned what runs next. None: nothing does."""
        if batch is not None and batch.forward_mode.is_decode():
            self.since = SinceStep()

    def launching(self, batch: ScheduleBatch) -> None:
        """A decode step with deterministic requests is about to run."""
        certified = len(batch.reqs) in self.lane.forward.shape.step_sizes
        if self.drafting is not None:
            self.drafting.stepped()
        for req in batch.reqs:
            if isinstance(req, DeterministicReq):
                req.launch(certified)

    def prefill(self, batch: ScheduleBatch) -> list[int]:
        """Run a deterministic prefill batch. Returns one next token per request."""
        self.since = replace(self.since, deterministic_prompts=True)
        jobs = self.lane.prompt_pages(batch)
        guests = self._free_riders(self.lane.forward.shape.free_slots(len(jobs)))
        tokens, pages = self.lane.prefill(batch, jobs, guests)
        self._of_prefill += map(self._judge, pages)
        self.lane.forward.ranks.agree(tokens)
        return tokens

    def launched(self, batch: ScheduleBatch) -> None:
        """SGLang has launched the batch. Settle what was verified in a prefill's passes."""
        if batch.forward_mode.is_extend():
            self.since = replace(self.since, prompts=True)
            decisions, self._of_prefill = self._of_prefill, []
            self._settle([self.scheduler.running_batch], decisions)

    # -- Plan, run --

    def _plan(self, batches: Batches) -> list[DeterministicReq]:
        """The requests whose pages run in a pass now. If there are none, decode goes on."""
        view = self._look(batches)
        chosen = self.policy.choose(view.due, self.since.passes, view.undecided)
        if self.service.live and self._queue and (chosen or view.waits_for_results):
            self._take_results()
            view = self._look(batches)
            chosen = self.policy.choose(view.due, self.since.passes, view.undecided)
        if self.service.live:
            return chosen
        if self.scheduler.not_ended(batches):
            if self._queue:
                self._take_results()
            self.scheduler.end_all(self.scheduler.not_ended(batches), batches)
        return []

    def _draft(self, batches: Batches) -> list[DeterministicReq]:
        """The requests whose drafts run in a pass now, at most one between two steps.

        Pages to verify take the free slots.
        """
        if self.drafting is None or self.since.passes or not self.service.live:
            return []
        running, *merging = batches
        waiting = [*self.scheduler.waiting_queue, *(req for one in merging for req in one.reqs)]
        if self.scheduler.chunked_req is not None:
            waiting.append(self.scheduler.chunked_req)
        chosen = self.drafting.choose(running, waiting)
        if chosen and self._queue:
            self._take_results()
            chosen = self.drafting.choose(running, waiting) if self.service.live else []
        # Before the chosen ones have candidates, or their own pages would look like riders.
        riders = self._free_riders(self.lane.forward.shape.free_slots(len(chosen)))
        for req in chosen:
            self.drafting.propose(req)
        return [*chosen, *(req for req in riders if req not in chosen)]

    def _look(self, batches: Batches) -> View:
        """Look at each request once, as it will stand when the steps in flight are seen."""
        reqs = {id(req): req for batch in batches for req in batch.reqs}.values()
        certified = len(reqs) in self.lane.forward.shape.step_sizes
        decoding = [req for req in reqs if isinstance(req, DeterministicReq)]
        outlooks = [(req, req.outlook(certified)) for req in decoding if not req.finished()]
        return View(
            [self._due(req, outlook) for req, outlook in outlooks if outlook and outlook.due],
            sum(outlook is not None for _, outlook in outlooks),
            bool(self._queue) and any(req.chooser.depends_on_output for req, _ in outlooks),
        )

    def _due(self, req: DeterministicReq, outlook: Outlook) -> Due[DeterministicReq]:
        ahead = self.policy.run_ahead if outlook.at_limit else outlook.ahead
        return Due(req, ahead, outlook.waited, outlook.suspected)

    def _free_riders(self, free: int) -> list[DeterministicReq]:
        """The requests whose pages take the free slots of a prefill pass. There are none while
        results are in flight, and none after a failed audit."""
        if not free or self._queue or not self.service.live:
            return []
        return self.policy.fill(self._look([self.scheduler.running_batch]).due, free)

    def _run(self, reqs: Sequence[DeterministicReq]) -> list[Decision]:
        """Verify in one pass. Nothing is decided if an audit fails in it."""
        self.since = replace(self.since, passes=self.since.passes + 1)
        decisions = [self._judge(page) for page in self.lane.verify(reqs)]
        self.lane.forward.ranks.agree()
        return decisions

    def _judge(self, page: PageRows) -> Decision:
        req = page.req
        waited, before = req.waited, len(req.track.candidates)
        action = req.verified(page.rows)
        judged = before - len(req.track.candidates)
        self.lane.forward.ranks.note(req.rid, action.commit, action.dropped)
        self.lane.metrics.verified(waited, judged, len(action.commit), action.dropped)
        self.lane.metrics.drafted(req.drafted, max(0, req.drafted - action.dropped))
        req.drafted = 0
        if action.dropped:
            logger.debug(
                "llm42: rollback rid=%s dropped=%d committed=%d position=%d",
                *(req.rid, action.dropped, len(action.commit), req.track.committed_len),
            )
        return Decision(req, list(action.commit))

    # -- Settle --

    def _settle(self, batches: Batches, decisions: Sequence[Decision]) -> None:
        """Commit what agreed, roll back what did not."""
        if not decisions:
            return
        for batch in batches:
            index = {id(req): i for i, req in enumerate(batch.reqs)}
            here = [decision for decision in decisions if id(decision.req) in index]
            if here:
                self._rewind(batch, here, [index[id(decision.req)] for decision in here])
        reqs, runs = zip(*decisions, strict=True)
        self.scheduler.batch_result_processor.commit(reqs, list(runs))

    def _rewind(
        self, batch: ScheduleBatch, decisions: Sequence[Decision], indices: list[int]
    ) -> None:
        """Make the batch go on from the tokens that were committed and kept."""
        at = torch.tensor(indices)
        lengths = torch.tensor([decision.req.track.kv_len for decision in decisions])
        for name in ("seq_lens", "seq_lens_cpu", "orig_seq_lens"):
            # New tensors, as SGLang does: an earlier step may still read the old ones.
            old = getattr(batch, name)
            new = old.index_copy(0, at.to(old.device), lengths.to(old.device, old.dtype))
            setattr(batch, name, new)
        batch.seq_lens_sum = None
        for decision in decisions:
            self._rewind_kv(decision.req)
        inputs = [decision.req.next_input(decision.run) for decision in decisions]
        rows = batch.req_pool_indices[at.to(batch.device)]
        # Where `resolve_forward_inputs` finds the next step's.
        payload = RelayPayload(bonus_tokens=torch.tensor(inputs, device=batch.device))
        self.scheduler.future_map.stash(rows, payload)

    def _rewind_kv(self, req: DeterministicReq) -> None:
        """Free whole pages past the known tokens. Within a page the next steps write again."""
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
        """Steps that are launched and not processed yet, as (batch, result). Without overlap there
        are none. See `Scheduler.event_loop_overlap`."""
        return getattr(self.scheduler, "result_queue", None) or deque()

    def _take_results(self) -> None:
        """Process what is in flight. The loop then finds nothing left of the last step."""
        while self._queue:
            self.scheduler.process_batch_result(*self.scheduler.result_queue.popleft())
        self.scheduler.last_batch = None
