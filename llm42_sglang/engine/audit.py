"""The running audit: what certification has measured is measured again while the server serves.

Every so many verifications one page more rides in the pass, or in the decode step: a full page of
a rider's past, already canonical, in whatever slot is next. Its KV of every layer must come out as
it was, bit for bit, and of a greedy request the tokens too. If not, nobody may rely on canonical
pages any more: deterministic service ends. Requests that are prefilled and never decode are not
audited.
"""

import random
from collections.abc import Sequence

import torch

from llm42_sglang.core.packing import PageJob, jobs_for
from llm42_sglang.core.pages import Span, page_span
from llm42_sglang.engine.canonical import CanonicalForward, same_bits
from llm42_sglang.engine.request import DeterministicReq
from llm42_sglang.sampling import greedy

PERIOD = 32  # passes for verification, decode steps that carry pages among them, between audits


class Audit:
    """Picks pages and compares them."""

    def __init__(self, forward: CanonicalForward):
        self.forward = forward
        self.failed = False
        self._passes = 0  # since the last audit
        self._random = random.Random(0)
        self._expected = torch.empty(0)

    def pick(
        self, riders: Sequence[DeterministicReq], seats: int
    ) -> PageJob[DeterministicReq] | None:
        """A page to run beside the riders' due pages, when it is time and one of them has one.

        seats: pages that the pass holds. If it is full, the audit waits for a while.
        """
        self._passes += 1
        size = self.forward.config.page
        able = [req for req in riders if req.track.canonical_len >= size]
        # A full pass lets it wait for one with a slot to spare, but not for ever.
        full = len(riders) >= seats and self._passes < 2 * PERIOD
        if self._passes < PERIOD or not able or full:
            return None
        self._passes = 0
        req = self._random.choice(able)
        page = self._random.randrange(req.track.canonical_len // size)
        (job,) = jobs_for(req, req.known_tokens, Span(*page_span(page, size)), size)
        self._expected = self.forward.kv_of(req.kv.req_pool_idx, page)
        return job

    def compare(self, job: PageJob[DeterministicReq], rows: torch.Tensor) -> bool:
        """Whether the page has come out as it was; if not, the audit has failed for good.

        rows: its logits, [T, vocab].
        """
        found = self.forward.kv_of(job.request.kv.req_pool_idx, job.page)
        same = same_bits(self._expected, found) and _same_tokens(job, rows)
        # Each rank has its own heads' KV; they go on, or end deterministic service, together.
        equal = all(self.forward.ranks.gather(same))
        self.failed = self.failed or not equal
        return equal


def _same_tokens(job: PageJob[DeterministicReq], rows: torch.Tensor) -> bool:
    """Whether a greedy request's output follows from these rows as it did."""
    req, start = job.request, job.page * len(rows)
    if not req.chooser.plain:
        return True
    first = max(start, len(req.origin_input_ids) - 1)  # the row that gave the first token
    expected = req.known_tokens[first + 1 : start + len(rows) + 1]
    return greedy(rows[first - start :]).tolist() == expected
