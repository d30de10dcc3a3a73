"""The canonical lane: prefill pages and verification pages, run as slots of canonical passes."""

from collections.abc import Sequence

from sglang.srt.managers.schedule_batch import ScheduleBatch

from llm42_sglang.core.config import Config
from llm42_sglang.core.packing import PageJob, jobs_for, pack
from llm42_sglang.core.pages import Span, page_index, page_span
from llm42_sglang.core.track import Born, Prefilled
from llm42_sglang.engine.canonical import CanonicalForward, Slot
from llm42_sglang.engine.request import DeterministicReq
from llm42_sglang.sampling import greedy

Job = PageJob[DeterministicReq]


class CanonicalLane:
    """Turns requests into page jobs, jobs into passes, and logits into tokens."""

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
        # A request's pages come in order: its last row is the last one written here.
        next_token = {
            id(job.request): tokens[-1]
            for job, tokens in zip(jobs, self._tokens_after(jobs), strict=True)
        }
        for req in batch.reqs:
            req.apply(Prefilled(req.extend_end))
            if req.extend_end == req.track.committed_len:
                req.apply(Born(next_token[id(req)]))
        return [next_token[id(req)] for req in batch.reqs]

    def verify(self, reqs: Sequence[DeterministicReq]) -> list[list[int]]:
        """Recompute each request's due page; returns the verifier's tokens for positions n on."""
        jobs = [
            job
            for req in reqs
            for job in jobs_for(req, req.known_tokens, req.track.due_span, self.config.page)
        ]
        assert len(jobs) == len(reqs)
        return [
            tokens[job.request.track.canonical_len - job.page * self.config.page :]
            for job, tokens in zip(jobs, self._tokens_after(jobs), strict=True)
        ]

    def _tokens_after(self, jobs: Sequence[Job]) -> list[list[int]]:
        """Per job, the token sampled from each of its real rows."""
        tokens_after: list[list[int]] = []
        size = self.config.page
        for group in pack(jobs, self.config.group):
            slots = [Slot(job.request.kv.req_pool_idx, job.page, job.tokens) for job in group]
            sampled = greedy(self.forward(slots)).tolist()  # [G*T]
            tokens_after += [
                sampled[i * size : i * size + len(job.tokens)] for i, job in enumerate(group)
            ]
        return tokens_after
