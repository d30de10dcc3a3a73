"""One streamed answer with its times, and the figures of many of them.

Times are seconds since the load began.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from llm42_sglang.cli.bench.workload import LoadRequest
from llm42_sglang.errors import UserError
from llm42_sglang.repro.connection import Reply, short


class Chunk(NamedTuple):
    """What a client receives at once: one token or several committed ones."""

    at_s: float
    tokens: int  # so far, this chunk's included


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to one request, with its times."""

    request: LoadRequest
    sent_s: float  # when it was sent; of a load with a rate, when it was due
    chunks: tuple[Chunk, ...]
    output_ids: tuple[int, ...]
    receipt: dict[str, Any] = field(default_factory=dict)  # meta_info["llm42"], {} if absent

    @property
    def ttft_s(self) -> float:
        """The time from sending to the first token."""
        return self.chunks[0].at_s - self.sent_s

    @property
    def end_to_end_s(self) -> float:
        """The time from sending to the last token."""
        return self.chunks[-1].at_s - self.sent_s

    @property
    def gaps_s(self) -> list[float]:
        """The times between chunks, in which a reader sees nothing new."""
        return [late.at_s - early.at_s for early, late in pairwise(self.chunks)]

    @property
    def inter_token_s(self) -> list[float]:
        """For each token but those of the first chunk, its share of the gap before its chunk.

        SGLang's bench_serving has the same definition. If each chunk is a token these are the gaps.
        """
        return [
            (late.at_s - early.at_s) / (late.tokens - early.tokens)
            for early, late in pairwise(self.chunks)
            for _ in range(late.tokens - early.tokens)
        ]


def outcome_of(request: LoadRequest, reply: Reply, start_s: float, due_s: float | None) -> Outcome:
    """The outcome of a streamed reply, of a load that began at `start_s`.

    `due_s` is when the request was to be sent, from the start; None if the load does not say.
    Raises UserError unless the answer has all tokens that the request asked for.
    """
    chunks: list[Chunk] = []
    last: dict[str, Any] = {}
    for at_s, event in reply.events:
        if "meta_info" not in event:
            raise UserError(f"the server broke an answer off: {short(str(event))}")
        tokens = event["meta_info"]["completion_tokens"]
        if tokens > (chunks[-1].tokens if chunks else 0):
            chunks.append(Chunk(at_s - start_s, tokens))
        last = event
    received = chunks[-1].tokens if chunks else 0
    if received != request.new_tokens:
        reason = last.get("meta_info", {}).get("finish_reason")
        raise UserError(f"an answer has {received} of {request.new_tokens} tokens: {reason}")
    sent_s = reply.sent_s - start_s if due_s is None else due_s
    receipt = last["meta_info"].get("llm42") or {}
    return Outcome(request, sent_s, tuple(chunks), tuple(last["output_ids"]), receipt)


def percentiles(values: Iterable[float]) -> dict[str, Any]:
    """The count, p50, p90 and p99 of a sample, by nearest rank; None if it is empty.

    A percentile is the smallest value that so many percent do not exceed. So it was measured.
    """
    ordered = sorted(values)
    ranks = {f"p{p}": math.ceil(p * len(ordered) / 100) - 1 for p in (50, 90, 99)}
    values = {name: ordered[rank] if ordered else None for name, rank in ranks.items()}
    return {"count": len(ordered), **values}


def ratio(part: float | None, whole: float | None) -> float | None:
    """`part / whole`, None if either is missing or `whole` is 0."""
    return part / whole if part is not None and whole else None


def tokens_per_s(load: Sequence[Outcome]) -> float:
    """Output tokens over the time of the whole load, as in SGLang's bench_serving.

    So every server is timed over the same work. Over less time, a server that prefills more prompts
    first would look slower.
    """
    return sum(outcome.request.new_tokens for outcome in load) / time_s(load)


def time_s(load: Sequence[Outcome]) -> float:
    """The time from sending the first request to the last token."""
    return max(o.chunks[-1].at_s for o in load) - min(o.sent_s for o in load)


class Recompute(NamedTuple):
    """Sums over deterministic requests: what verification dropped, and what needed none."""

    requests: int
    rolled_back: int  # tokens
    rollbacks: int
    rate: float | None  # rolled back, as a share of all tokens computed; None if there are none
    canonical_step_rate: float | None  # as a share of the answers' tokens; None if there are none


def recompute(outcomes: Iterable[Outcome]) -> Recompute:
    """Add up the receipts. Raises UserError if a deterministic answer is not verified."""
    answered = [outcome for outcome in outcomes if outcome.request.deterministic]
    if not all(outcome.receipt.get("verified") is True for outcome in answered):
        raise UserError("the server does not verify deterministic answers: is it `llm42 serve`?")
    kept = sum(len(outcome.output_ids) for outcome in answered)
    dropped = sum(outcome.receipt["tokens_rolled_back"] for outcome in answered)
    rollbacks = sum(outcome.receipt["rollbacks"] for outcome in answered)
    steps = sum(outcome.receipt["canonical_steps"] for outcome in answered)
    rates = ratio(dropped, kept + dropped), ratio(steps, kept)
    return Recompute(len(answered), dropped, rollbacks, *rates)
