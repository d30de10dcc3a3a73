"""Drafts: a request's own text proposes candidates, and a pass between two steps verifies them.

`core.drafts` guesses and decides. This file asks it, at most once between two decode steps. A draft
fills the rest of a page whose KV the request owns already, so it needs no memory.
"""

from collections.abc import Sequence

from sglang.srt.managers.schedule_batch import Req, ScheduleBatch

from llm42_sglang.core.drafts import Costs, Offer, worth_a_pass
from llm42_sglang.core.pages import page_index, page_span
from llm42_sglang.core.track import Proposed
from llm42_sglang.engine.loop.request import DeterministicReq

LEARNT = 2000  # tokens that are learnt between two steps, at most: some milliseconds
LONGEST = 32_768  # tokens of a text that is learnt: it takes half a kilobyte for each
EVERY = 4  # while somebody ordinary waits, a pass for drafts comes once in so many steps, at most


class Drafting:
    """Decides for one scheduler which requests have a draft verified before the next step."""

    def __init__(self, costs: Costs):
        self.costs = costs  # the same on all ranks, for they must decide alike
        self._steps = EVERY  # since the last pass for drafts

    def choose(self, batch: ScheduleBatch, waiting: Sequence[Req]) -> list[DeterministicReq]:
        """The requests of a decode batch whose drafts are worth a pass now, the best first.

        waiting: all others, who would wait for that pass too.
        While steps are in flight this is a forecast, by the tokens known so far.
        """
        going = [req for req in batch.reqs if not req.finished()]
        reqs = [req for req in going if isinstance(req, DeterministicReq)]
        ordinary = any(not isinstance(req, DeterministicReq) for req in [*going, *waiting])
        if ordinary:
            # Drawing from their rows takes longer than the pass whose cost was measured.
            reqs = [req for req in reqs if req.chooser.plain and _within(req, self.costs.context)]
            if self._steps < EVERY:
                return []
        offers, left = [], LEARNT
        for req in reqs:
            left -= _learn(req, left)
            offers.append(_offer(req))
        promising = [offer for offer in offers if offer.expected > 0]
        return worth_a_pass(promising, self.costs, len(going), ordinary)

    def stepped(self) -> None:
        """A decode step is launched."""
        self._steps += 1

    def propose(self, req: DeterministicReq) -> None:
        """Make candidates of the request's draft."""
        self._steps = 0
        draft = req.drafter.draft(room_of(req))
        for token in draft:
            req.apply(Proposed(token, may_finish=False))  # a pass follows at once
        req.drafted = len(draft)


def room_of(req: DeterministicReq) -> int:
    """How many tokens a draft may have: to the end of the page, or of the answer but for one.

    There is no room while a prompt runs, nor before a step has begun the page.
    """
    output_end = len(req.origin_input_ids) + len(req.output_ids)
    if not req.begun or not req.track.decoding or req.track.committed_len != output_end:
        return 0
    if req.to_finish is not None or req.track.finish_suspected:
        return 0
    committed = output_end + sum(req.in_flight)
    page_end = page_span(page_index(committed - 1, req.page_size), req.page_size).end
    if req.kv.kv_allocated_len <= page_end - req.page_size:
        return 0
    last = len(req.origin_input_ids) + req.sampling_params.max_new_tokens - 1  # position
    return max(0, min(page_end, last) - req.track.known_len - len(req.in_flight))


def _within(req: DeterministicReq, tokens: int) -> bool:
    """Whether the request has no more tokens. Attention to a longer text takes longer."""
    return len(req.origin_input_ids) + len(req.output_ids) <= tokens


def _learn(req: DeterministicReq, most: int) -> int:
    """Have the request's drafter learn committed tokens, at most so many. Returns how many."""
    if not room_of(req) or not _within(req, LONGEST):
        return 0
    drafter, prompt = req.drafter, req.origin_input_ids
    start, end = drafter.fixed_len, drafter.fixed_len + most
    behind = len(prompt)  # positions of output begin there
    committed = [*prompt[start:end], *req.output_ids[max(0, start - behind) : max(0, end - behind)]]
    known = start + len(committed) == behind + len(req.output_ids)
    drafter.follow(committed, req.track.candidates if known else ())
    return len(committed)


def _offer(req: DeterministicReq) -> Offer[DeterministicReq]:
    """Nothing, unless the drafter knows the whole text."""
    room = room_of(req)
    known = req.drafter.fixed_len == len(req.origin_input_ids) + len(req.output_ids)
    return Offer(req, req.drafter.expected(room) if room and known else 0.0)
