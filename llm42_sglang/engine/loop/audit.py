"""The running audit measures again, while the server serves, what certification has measured.

One in so many pages of outputs is run again by a canonical pass, whether steps or passes have
written it. The KV of every layer must come out as it was, bit for bit. The tokens of a greedy
request must too. If anything differs, nobody may rely on canonical rows any more, and deterministic
service ends.

A page that was picked takes a free slot of a pass. If there is none before its request ends, it
runs then. But while others decode, they would have to wait for it: then one of the next pages is
picked in its place. When G pages are picked or owed, those that are there run in one pass all the
same. Requests that never decode are not audited.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from llm42_sglang.core.packing import PageJob, jobs_for
from llm42_sglang.core.pages import Span, split_into_pages
from llm42_sglang.engine.loop.request import DeterministicReq
from llm42_sglang.engine.passes.canonical import CanonicalForward, same_bits
from llm42_sglang.engine.service import Service
from llm42_sglang.sampling import greedy


class Audited(NamedTuple):
    """A page to run again, and the KV it has: [layers, 2, rows, heads * head_dim]."""

    job: PageJob[DeterministicReq]
    expected: torch.Tensor


class Audit:
    """Picks pages, and compares them when they have run again."""

    def __init__(self, forward: CanonicalForward, service: Service):
        self.forward = forward
        self.service = service
        self._size = forward.config.page
        self._written = 0  # pages
        self._owed = 0  # pages that left before they were audited
        self._picked: list[tuple[DeterministicReq, Span]] = []  # positions in one page

    def committed(self, req: DeterministicReq) -> None:
        """A token of the request was committed. It may be the last one."""
        known = len(req.origin_input_ids) + len(req.output_ids)
        end = min(req.track.canonical_len, known - 1)
        if req.audited_len is None:
            req.audited_len = end  # the prompt is not audited
        if not req.finished():
            end -= end % self._size  # a page that is not full yet will be
        start = req.audited_len
        if end <= start:
            return
        for span in split_into_pages(Span(start - start % self._size, end), self._size):
            self._written += 1
            self._owed += self._written % self.forward.config.audit == 0
            if self._owed:
                self._owed -= 1
                self._picked.append((req, span))
        req.audited_len = end

    def riders(self, free: int) -> list[Audited]:
        """Picked pages, at most `free` of them, for the free slots of a pass."""
        if not self.service.live:
            return []
        self._picked = [one for one in self._picked if not one[0].finished() and _is_there(*one)]
        riding, self._picked = self._picked[:free], self._picked[free:]
        return list(self._boarded(riding))

    def leaving(self, req: DeterministicReq, busy: bool) -> list[Audited]:
        """Pages to audit now that a request ends. Its KV is still its own. busy: others decode."""
        if not self.service.live:
            return []
        mine = [one for one in self._picked if one[0] is req and _is_there(*one)]
        self._picked = [one for one in self._picked if one[0] is not req]
        group = self.forward.config.group
        if not mine:
            return []
        if busy and len(mine) + len(self._picked) + self._owed < group:
            self._owed += len(mine)
            return []
        return [*self._boarded(mine), *self.riders(max(0, group - len(mine)))]

    def compare(self, audited: Audited, rows: torch.Tensor) -> bool:
        """Whether the page has come out as it was; if not, deterministic service ends.

        rows: its logits, [rows, vocab].
        """
        same = same_bits(audited.expected, self._kv_of(audited.job))
        same = same and _same_tokens(audited.job, rows, self._size)
        # Each rank has its own heads' KV; they go on, or end deterministic service, together.
        equal = all(self.forward.ranks.gather(same))
        if not equal:
            self.service.end()
        return equal

    def _boarded(self, picked: list[tuple[DeterministicReq, Span]]) -> Iterator[Audited]:
        for req, span in picked:
            (job,) = jobs_for(req, req.known_tokens, span, self._size)
            yield Audited(job, self._kv_of(job))

    def _kv_of(self, job: PageJob[DeterministicReq]) -> torch.Tensor:
        kv = self.forward.kv_of(job.request.kv.req_pool_idx, job.page)
        return kv[:, :, : len(job.tokens)]


def _is_there(req: DeterministicReq, span: Span) -> bool:
    """Whether the rows are still there. A retraction gives their place to others."""
    return req.track.canonical_len >= span.end


def _same_tokens(job: PageJob[DeterministicReq], rows: torch.Tensor, size: int) -> bool:
    """Whether these rows give the output that a greedy request has. rows: [rows, vocab]."""
    req, start = job.request, job.page * size
    if not req.chooser.plain:
        return True
    # Other weights have drawn the tokens before the row that gave the first of these.
    first = max(start, len(req.origin_input_ids) - 1 + req.lineage.past_tokens)
    if first >= start + len(rows):
        return True
    expected = req.known_tokens[first + 1 : start + len(rows) + 1]
    return greedy(rows[first - start :]).tolist() == expected
