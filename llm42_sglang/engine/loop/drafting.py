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


class Drafting:
    """Decides for one scheduler which requests have a draft verified before the next step."""

    def __init__(self, costs: Costs):
        self.costs = costs  # the same on all ranks, for they must decide alike

    def choose(self, batch: ScheduleBatch, waiting: Sequence[Req]) -> list[DeterministicReq]:
        """The requests of a decode batch whose drafts are worth a pass now, the best first.

        waiting: all others, who would wait for that pass too.
        While steps are in flight this is a forecast, by the tokens known so far.
        """
        going = [req for req in batch.reqs if not req.finished()]
        offers = [_offer(req) for req in going if isinstance(req, DeterministicReq)]
        promising = [offer for offer in offers if offer.expected > 0]
        ordinary = any(not isinstance(req, DeterministicReq) for req in [*going, *waiting])
        return worth_a_pass(promising, self.costs, len(going), ordinary)

    def propose(self, req: DeterministicReq) -> None:
        """Make candidates of the request's draft."""
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


def _offer(req: DeterministicReq) -> Offer[DeterministicReq]:
    room = room_of(req)
    if room:
        drafter = req.drafter
        new = drafter.fixed_len - len(req.origin_input_ids)  # of the output
        committed = [*req.origin_input_ids[drafter.fixed_len :], *req.output_ids[max(0, new) :]]
        drafter.follow(committed, req.track.candidates)
    return Offer(req, req.drafter.expected(room) if room else 0.0)
