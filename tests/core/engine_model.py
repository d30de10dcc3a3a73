"""A toy engine around `core`. It does what `engine` does with SGLang, and checks every step.

Its fast path proposes the tokens that a test gives it, right or wrong. Its canonical pass computes
from the KV and the tokens that it finds, right or wrong. Only the protocol keeps wrong tokens from
the client.
"""

from collections import Counter
from collections.abc import Sequence

from llm42_sglang.core import packing
from llm42_sglang.core import track as protocol
from llm42_sglang.core.pages import Span

from .kv_model import PADDING, Pool, Row, pages_needed
from .oracle import VOCAB, Asked, ends
from .request_model import Request

RUN_AHEAD = 5  # candidates past a full page, at most: more than a page of the smaller size


class Engine:
    """Requests, a KV pool and canonical passes of `group` slots."""

    def __init__(self, page_size: int, group: int, pool_pages: int) -> None:
        self.page_size = page_size
        self.group = group
        self.pool = Pool(pool_pages, page_size)
        self.live: list[Request] = []
        self.finished: list[Request] = []
        self.seen: Counter[str] = Counter()  # situations met, so that a test can ask for them

    # What happens to a request

    def arrive(self, prompt: tuple[int, ...], asked: Asked) -> None:
        track = protocol.Track(page_size=self.page_size, committed_len=len(prompt))
        self.live.append(Request(prompt, asked, track))

    def decode(self, request: Request, offset: int, run_ahead: bool, certified: bool) -> None:
        """One decode step, of a size that is certified or not."""
        track = request.track
        if track.ahead >= RUN_AHEAD or (track.due and not run_ahead):
            return
        if not self._hold(request, track.kv_len + 1, spare=[request]):
            self.retract(request)
        elif certified and track.settled:
            self._step(request)
        else:
            self.seen["a certified step on top of candidates"] += certified
            self._propose(request, offset)

    def _step(self, request: Request) -> None:
        """A canonical step: its row has the bits of a pass's, over the rows that it finds."""
        known, position = request.known, request.track.kv_len
        good = self._canonical_up_to(request, position)
        self._write(request, position, Row(known, canonical=good))
        action = self._advance(request, protocol.Stepped(request.draw(known, good)))
        assert len(action.commit) == 1 and not action.dropped
        request.stepped.add(position)
        self.seen["a page filled by canonical steps"] += (position + 1) % self.page_size == 0
        self._release(request, action)
        if request in self.live:
            self._cache(request)
        else:
            self.seen["finished in a canonical step"] += 1

    def _propose(self, request: Request, offset: int) -> None:
        """The fast path: the oracle's token shifted by `offset`."""
        track = request.track
        left_off = track.settled and track.kv_len - 1 in request.stepped
        self.seen["canonical steps left off in mid-page"] += (
            left_off and track.kv_len % self.page_size > 0
        )
        self._write(request, track.kv_len, Row(request.known, canonical=False))
        token = (request.draw(request.known) + offset) % VOCAB
        tokens = (*request.output, *track.candidates, token)
        self._advance(request, protocol.Proposed(token, ends(tokens, request.asked)))
        assert request.track.candidates[-1:] == (token,)

    def draft(self, request: Request, right: int, shift: int) -> None:
        """Candidates that no step has computed, up to the end of the page; a pass follows at once.

        So many are the oracle's, and one that is shifted follows.
        """
        track = request.track
        if not request.born or track.finish_suspected or track.kv_len <= track.due_span.start:
            return
        for offset in [*[0] * right, shift][: max(0, track.room)]:
            token = (request.draw(request.known) + offset) % VOCAB
            self._advance(request, protocol.Proposed(token, may_finish=False))
        filled, rollbacks = request.track.room == 0, request.rollbacks
        self.run_passes([request], chunk_pages=1, early=True)
        self.seen["a draft on top of candidates"] += bool(track.candidates)
        self.seen["a draft of the wrong token"] += request.rollbacks > rollbacks
        self.seen["a draft that fills a page"] += filled and request.rollbacks == rollbacks

    def run_passes(
        self,
        picked: Sequence[Request],
        chunk_pages: int,
        early: bool = False,
        aborted: Request | None = None,
    ) -> None:
        """Prefill chunks and verifications of `picked`, mixed; `aborted` leaves in flight."""
        planned: dict[Request, Span] = {}
        for request in picked:
            span = self._span_to_run(request, chunk_pages, early)
            if span and self._hold(request, span.end, spare=[*planned, request]):
                assert span.end <= len(request.known), "real rows without a token"
                planned[request] = span
        jobs = [
            job
            for request, span in planned.items()
            for job in packing.jobs_for(request, request.known, span, self.page_size)
        ]
        sampled: dict[tuple[Request, int], int] = {}
        for slots in packing.pack(jobs, self.group):
            self._canonical_pass(slots, sampled)
        for request, span in planned.items():
            if request is aborted:
                self.seen["aborted in flight"] += 1
                self.leave(request)
            elif request.born:
                rows = range(request.track.canonical_len, span.end)
                self._verified(request, span, [sampled[request, row] for row in rows])
            else:
                self._prefilled(request, span, sampled.get((request, span.end - 1)))

    def retract(self, request: Request) -> None:
        self.seen["retracted with candidates"] += bool(request.track.candidates)
        self._cache_and_free(request)
        request.born = False
        self._advance(request, protocol.Retracted(len(request.prompt) + len(request.output)))
        assert request.known == request.committed, "candidates outlived a retraction"

    def leave(self, request: Request) -> None:
        """Finished, aborted or disconnected."""
        self._cache_and_free(request)
        self.live.remove(request)

    def drain(self) -> None:
        """Serve everyone to the end, with a fast path that is never wrong."""
        for request in list(self.live):
            for _ in range(4 * (request.asked.max_new + len(request.prompt))):
                if request in self.live:
                    self.run_passes([request], chunk_pages=2)
                if request in self.live and request.born:
                    self.decode(request, offset=0, run_ahead=False, certified=False)
                self.check()
            assert request not in self.live, f"stuck: {request}"
        self.flush_cache()

    def flush_cache(self) -> None:
        self.pool.evict(self._held(), at_most=self.pool.total)

    # Passes

    def _span_to_run(self, request: Request, chunk_pages: int, early: bool) -> Span | None:
        track = request.track
        if request.born:
            return track.due_span if track.due or early else None
        if track.canonical_len == 0:  # SGLang leaves at least one token to compute
            hit = self.pool.match(request.committed[:-1])
            request.pages = hit
            self._advance(request, protocol.Prefilled(len(hit) * self.page_size))
            self.seen["cache hit"] += bool(hit)
        start = request.track.canonical_len
        return Span(start, min(start + chunk_pages * self.page_size, track.committed_len))

    def _canonical_pass(
        self, slots: list[packing.PageJob[Request]], sampled: dict[tuple[Request, int], int]
    ) -> None:
        assert 1 <= len(slots) <= self.group, "a pass of another shape"
        requests = [job.request for job in slots]
        assert len({(job.request, job.page) for job in slots}) == len(slots)
        self.seen["two pages of one request in a pass"] += len(set(requests)) < len(slots)
        self.seen["prefill and verification in a pass"] += len({r.born for r in requests}) == 2
        # Every layer writes all rows before any row attends: the order of slots is no matter.
        for job in sorted(slots, key=lambda job: job.page):
            self._run_slot(job, sampled)

    def _run_slot(
        self, job: packing.PageJob[Request], sampled: dict[tuple[Request, int], int]
    ) -> None:
        request, start = job.request, job.page * self.page_size
        assert 1 <= len(job.tokens) <= self.page_size
        assert request.pages[job.page] not in self.pool.cache.values(), "rewrites a shared page"
        good = self._canonical_up_to(request, start)
        prefix = self.pool.read(request.pages)[start - 1].prefix if start else ()
        for i, token in enumerate(job.tokens):
            prefix += (token,)
            self._write(request, start + i, Row(prefix, canonical=good))
            sampled[request, start + i] = request.draw(prefix, good)
        for i in range(len(job.tokens), self.page_size):
            self._write(request, start + i, PADDING)

    def _canonical_up_to(self, request: Request, end: int) -> bool:
        """Whether rows [0, end) are canonical, all of one text."""
        past = self.pool.read(request.pages)[:end]
        prefix = past[-1].prefix if past else ()
        return all(row == Row(prefix[: p + 1], canonical=True) for p, row in enumerate(past))

    def _prefilled(self, request: Request, span: Span, token: int | None) -> None:
        self._advance(request, protocol.Prefilled(span.end))
        if span.end == request.track.committed_len:
            assert token is not None
            request.born = True
            action = self._advance(request, protocol.Born(token))
            assert len(action.commit) == 1, "a birth commits one token"
            self._release(request, action)
        if request in self.live:
            self._cache(request)

    def _verified(self, request: Request, span: Span, tokens: list[int]) -> None:
        before, committed, known = request.track, request.committed, request.known
        action = self._advance(request, protocol.Verified(tokens))
        assert action.commit, "a pass that commits nothing"
        committed += action.commit
        # A candidate survives exactly if all that is committed agrees with what it was built on.
        agreed = known[: len(committed)] == committed[: len(known)]
        survivors = known[len(committed) :] if agreed else ()
        assert request.track.candidates == survivors, "wrong candidates survived"
        now_known = committed + request.track.candidates
        dropped = len(known) - _common_prefix(known, now_known)
        assert action.dropped == dropped, f"{action.dropped} reported, {dropped} dropped"
        assert dropped or len(committed) == span.end + 1, "a verified row was wasted"
        request.passes += 1
        request.rollbacks += dropped > 0
        request.rolled_back += dropped
        last_row = dropped > 0 and len(action.commit) == len(tokens)
        self.seen["rollback"] += dropped > 0
        self.seen["mismatch at the last row"] += last_row
        self.seen["candidates kept past the page"] += bool(request.track.candidates)
        full_again = request.track.due and not request.track.finish_suspected
        self.seen["due again, the next page full too"] += full_again
        self.seen["settled before a page's last row"] += request.track.room == 0
        self.seen["a page with rows of canonical steps"] += not request.stepped.isdisjoint(
            range(span.start, before.canonical_len)
        )
        self.seen["first token of the next page"] += len(committed) > len(known)
        pages_before = len(request.pages)
        self._release(request, action)
        if request in self.live:
            self.seen["rollback across a page"] += len(request.pages) < pages_before
            self.seen["suspected finish rolled back"] += before.finish_suspected and dropped > 0

    # Bookkeeping

    def _advance(self, request: Request, event: protocol.Event) -> protocol.Action:
        request.track, action = protocol.step(request.track, event)
        return action

    def _release(self, request: Request, action: protocol.Action) -> None:
        """Give the client what was committed, up to the end of the request."""
        for token in action.commit:
            prefix = request.committed
            row = self.pool.read(request.pages)[len(prefix) - 1]
            assert row == Row(prefix, canonical=True), f"released from {row}"
            assert token == request.draw(prefix), f"released {token} after {prefix}"
            request.output.append(token)
            if request.finished:
                self.finished.append(request)
                self.leave(request)
                return
        self._trim(request)

    def _write(self, request: Request, position: int, row: Row) -> None:
        page, offset = divmod(position, self.page_size)
        self.pool.rows[request.pages[page]][offset] = row

    def _hold(self, request: Request, upto: int, spare: Sequence[Request]) -> bool:
        """Give `request` the pages of [0, upto), at the cost of requests not in `spare`."""
        while len(request.pages) < pages_needed(upto, self.page_size):
            page = self.pool.take(self._held())
            victims = [r for r in self.live if r.pages and r not in spare]
            if page is not None:
                request.pages.append(page)
            elif victims:
                self.seen["retracted for memory"] += 1
                self.retract(victims[-1])
            else:
                self._trim(request)
                return False
        return True

    def _held(self) -> set[int]:
        return {page for request in self.live for page in request.pages}

    def _trim(self, request: Request) -> None:
        """Free whole pages past the KV that counts."""
        keep = pages_needed(request.kv_rows, self.page_size)
        request.pages, surplus = request.pages[:keep], request.pages[keep:]
        self.pool.give(surplus)

    def _cache(self, request: Request) -> None:
        """Offer the canonical full pages to the radix cache, under tokens the client knows."""
        self.pool.insert(request.committed[: request.track.canonical_len], request.pages)

    def _cache_and_free(self, request: Request) -> None:
        self._cache(request)
        self.pool.give(request.pages)
        request.pages = []

    # Invariants

    def check(self) -> None:
        """Whatever must hold between two steps. Raises AssertionError."""
        self.pool.check([page for request in self.live for page in request.pages])
        for request in self.live:
            self._check_request(request)
        for request in self.finished:
            assert tuple(request.output) == request.truth, "the final output is not the oracle's"

    def _check_request(self, request: Request) -> None:
        track, known = request.track, request.known
        assert tuple(request.output) == request.truth[: len(request.output)]
        assert track.committed_len == len(request.committed)
        assert len(request.pages) == pages_needed(request.kv_rows, self.page_size), "stray pages"
        rows = self.pool.read(request.pages)
        for p in range(request.kv_rows):
            assert rows[p].prefix == known[: p + 1], f"row {p} was built on other tokens"
            assert rows[p].canonical or p >= track.canonical_len, f"row {p} is not canonical"
        assert track.decoding or not request.born, "born, and yet not decoding"
        assert track.finish_suspected == request.suspects(), "a wrong suspicion"
        page_end = (track.canonical_len // self.page_size + 1) * self.page_size
        full = len(known) >= page_end
        assert track.due == bool(track.candidates and (full or request.suspects())), "due is wrong"
        assert not request.born or track.ahead == len(known[page_end:]), "ahead is wrong"
        assert not track.due or len(request.pages) > track.page, "due, and its page is not held"
        assert track.canonical_steps == len(request.stepped)
        assert (track.verify_passes, track.rollbacks, track.tokens_rolled_back) == (
            request.passes,
            request.rollbacks,
            request.rolled_back,
        )


def _common_prefix(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
