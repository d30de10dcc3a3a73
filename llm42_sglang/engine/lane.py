"""The canonical lane: prefill pages and verification pages, run as slots of canonical passes."""

from collections.abc import Iterator, Sequence

import torch
from sglang.srt.managers.schedule_batch import ScheduleBatch

from llm42_sglang.core.config import Config
from llm42_sglang.core.packing import PageJob, jobs_for, pack
from llm42_sglang.core.pages import Span, page_index, page_span
from llm42_sglang.engine.canonical import CanonicalForward, Slot
from llm42_sglang.engine.request import DeterministicReq

Job = PageJob[DeterministicReq]


class CanonicalLane:
    """Turns requests into page jobs, jobs into passes, and hands each request its rows."""

    def __init__(self, forward: CanonicalForward, config: Config):
        self.forward = forward
        self.config = config

    def prefill(self, batch: ScheduleBatch) -> list[int]:
        """Write the batch's new rows canonically; returns one next token per request.

        For a chunk that is not the request's last, the token is a placeholder, as in SGLang.
        """
        jobs: list[Job] = []
        for req in batch.reqs:
            req.begin_prefill()
            # A chunk may end anywhere; the next one computes its partial page again.
            start, _ = page_span(page_index(req.prefix_len, self.config.page), self.config.page)
            span = Span(start, req.extend_end)
            jobs += jobs_for(req, req.full_untruncated_fill_ids, span, self.config.page)
        next_token: dict[int, int] = {}
        for job, rows in self._run(jobs):
            req = job.request
            start = job.page * self.config.page
            req.read_prompt(rows, start)
            if start + len(rows) == req.extend_end:  # the request's last page here
                next_token[id(req)] = req.prefilled(req.extend_end, rows[-1])
        return [next_token[id(req)] for req in batch.reqs]

    def verify(
        self, reqs: Sequence[DeterministicReq]
    ) -> Iterator[tuple[DeterministicReq, torch.Tensor]]:
        """Recompute each request's due page; yields its rows from position n-1 on, in order."""
        jobs = [
            job
            for req in reqs
            for job in jobs_for(req, req.known_tokens, req.track.due_span, self.config.page)
        ]
        assert len(jobs) == len(reqs)
        for job, rows in self._run(jobs):
            req = job.request
            yield req, rows[req.track.canonical_len - job.page * self.config.page :]

    def _run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, torch.Tensor]]:
        """Each job with the logits of its real rows, [tokens, vocab]; pass by pass, in order."""
        size = self.config.page
        for group in pack(jobs, self.config.group):
            slots = [Slot(job.request.kv.req_pool_idx, job.page, job.tokens) for job in group]
            logits = self.forward(slots)  # [G*T, vocab]
            for i, job in enumerate(group):
                yield job, logits[i * size : i * size + len(job.tokens)]
