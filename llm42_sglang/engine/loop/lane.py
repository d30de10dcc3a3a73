"""The canonical lane runs pages of prompts and pages to verify as slots of canonical passes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from sglang.srt.managers.schedule_batch import ScheduleBatch

from llm42_sglang.core.config import Config
from llm42_sglang.core.packing import PageJob, jobs_for, pack
from llm42_sglang.core.pages import Span, page_index, page_span
from llm42_sglang.engine.loop.audit import Audit, Audited
from llm42_sglang.engine.loop.request import DeterministicReq
from llm42_sglang.engine.metrics import LaneMetrics
from llm42_sglang.engine.passes.canonical import CanonicalForward, Slot
from llm42_sglang.engine.service import Service

Job = PageJob[DeterministicReq]


class PageRows(NamedTuple):
    """Of a page that was verified, the logits of positions n-1 on. rows: [n, vocab]."""

    req: DeterministicReq
    rows: torch.Tensor


class CanonicalLane:
    """Makes page jobs of requests and passes of jobs, and hands each request its rows."""

    def __init__(
        self, forward: CanonicalForward, config: Config, service: Service, metrics: LaneMetrics
    ):
        self.forward = forward
        self.config = config
        self.service = service
        self.metrics = metrics
        self.audit = Audit(forward, service)

    def prompt_pages(self, batch: ScheduleBatch) -> list[Job]:
        """The pages with new rows of a prefill batch."""
        jobs: list[Job] = []
        for req in batch.reqs:
            req.begin_prefill()
            # A chunk may end anywhere; the next one computes its partial page again.
            start, _ = page_span(page_index(req.prefix_len, self.config.page), self.config.page)
            span = Span(start, req.extend_end)
            # What `Req.get_fill_ids` gave: prompt and committed output.
            jobs += jobs_for(req, req.full_untruncated_fill_ids, span, self.config.page)
        return jobs

    def prefill(
        self, batch: ScheduleBatch, jobs: Sequence[Job], guests: Sequence[DeterministicReq]
    ) -> tuple[list[int], list[PageRows]]:
        """Run `jobs`, all pages of the batch; the guests' pages to verify and audited ones take the
        free slots. Nothing comes of the guests' if an audit fails.

        Returns one next token per request of the batch, and the guests' rows. For a chunk that is
        not the request's last, the token is a placeholder, as in SGLang.
        """
        free = self.forward.shape.free_slots(len(jobs)) - len(guests)
        audited = self.audit.riders(free)
        others = [*map(self._job_to_verify, guests), *(one.job for one in audited)]
        rows_of = self._run([*jobs, *others], prefilling=len(jobs))
        next_token: dict[int, int] = {}
        for job, rows in zip(jobs, rows_of, strict=False):
            self._prefilled(job, rows, next_token)
        self.metrics.prefilled(len(jobs))
        pages = self._verified(guests, rows_of, audited)
        return [next_token[id(req)] for req in batch.reqs], pages

    def verify(self, reqs: Sequence[DeterministicReq]) -> list[PageRows]:
        """Recompute each request's page to verify; nothing comes of it if an audit fails."""
        jobs = [self._job_to_verify(req) for req in reqs]
        audited = self.audit.riders(self.forward.shape.free_slots(len(jobs)))
        rows_of = self._run([*jobs, *(one.job for one in audited)])
        return self._verified(reqs, rows_of, audited)

    def _verified(
        self,
        reqs: Sequence[DeterministicReq],
        rows_of: Iterator[torch.Tensor],
        audited: Sequence[Audited],
    ) -> list[PageRows]:
        """The last rows of a run: those of pages to verify, then those of audited pages."""
        pages = [
            PageRows(req, rows[req.track.canonical_len - req.track.due_span.start :])
            for req, rows in zip(reqs, rows_of, strict=False)
        ]
        self._compare(audited, rows_of)
        return pages if self.service.live else []

    def committed(self, req: DeterministicReq, stepped: bool, busy: bool) -> None:
        """A token of the request was committed, and its KV is still its own.

        When the request ends, pages may be audited. stepped: whether a canonical step has given the
        token. busy: whether other requests decode.
        """
        if stepped:
            self.metrics.stepped()
            self.forward.ranks.note(req.rid, req.output_ids[-1])
            if req.finished():
                self.forward.ranks.agree()  # or nobody gets the answer
        self.audit.committed(req)
        if req.finished() and (audited := self.audit.leaving(req, busy)):
            self.forward.wait()  # the next step may be under way
            self._compare(audited, self._run([one.job for one in audited]))

    def _compare(self, audited: Sequence[Audited], rows_of: Iterator[torch.Tensor]) -> None:
        for one, rows in zip(audited, rows_of, strict=False):
            self.metrics.audited(self.audit.compare(one, rows))

    def _prefilled(self, job: Job, rows: torch.Tensor | None, next_token: dict[int, int]) -> None:
        req, start = job.request, job.page * self.config.page
        if rows is not None:
            req.read_prompt(rows, start)
        if start + len(job.tokens) == req.extend_end:  # the request's last page here
            last_row = None if rows is None else rows[-1]
            next_token[id(req)] = req.prefilled(req.extend_end, last_row)

    def _job_to_verify(self, req: DeterministicReq) -> Job:
        (job,) = jobs_for(req, req.known_tokens, req.track.due_span, self.config.page)
        return job

    def _run(self, jobs: Sequence[Job], prefilling: int = 0) -> Iterator[torch.Tensor | None]:
        """Yields, for each job in order, the logits of its real rows, [tokens, vocab].

        The first `prefilling` jobs are pages of prompts. Those that nobody reads yield None.
        """
        scored = (
            i >= prefilling or job.request.reads_page(job.page, len(job.tokens))
            for i, job in enumerate(jobs)
        )
        for group in pack(jobs, self.config.group):
            slots = [_slot_of(job, next(scored)) for job in group]
            self.metrics.passed(self.forward.shape.width_for(len(slots)), len(slots))
            for job, logits in zip(group, self.forward(slots), strict=True):
                yield None if logits is None else logits[: len(job.tokens)]


def _slot_of(job: Job, scored: bool = True) -> Slot:
    return Slot(job.request.kv.req_pool_idx, job.page, job.tokens, scored)
