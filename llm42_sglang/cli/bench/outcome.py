"""One streamed answer with the times that are defined on it, and what many of them come to.

Times are seconds since the load began.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from llm42_sglang.cli.bench.workload import Request
from llm42_sglang.errors import UserError
from llm42_sglang.repro.connection import Reply, short


class Chunk(NamedTuple):
    """What a client receives at once: one token, or a run of committed ones."""

    at_s: float
    tokens: int  # so far, this chunk's included


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back for one request."""

    request: Request
    sent_s: float  # when it arrived: where the load says when, that time
    chunks: tuple[Chunk, ...]
    output_ids: tuple[int, ...]
    receipt: dict[str, Any] = field(default_factory=dict)  # meta_info["llm42"], {} if absent

    @property
    def ttft_s(self) -> float:
        """From sending to the first token."""
        return self.chunks[0].at_s - self.sent_s

    @property
    def end_to_end_s(self) -> float:
        """From sending to the last token."""
        return self.chunks[-1].at_s - self.sent_s

    @property
    def gaps_s(self) -> list[float]:
        """Between one chunk and the next: how long a reader sees nothing new."""
        return [late.at_s - early.at_s for early, late in pairwise(self.chunks)]

    @property
    def inter_token_s(self) -> list[float]:
        """A value a token: the gap before its chunk, divided among the chunk's tokens.

        SGLang's bench_serving has the same definition. Equal to the gaps where chunks are tokens.
        """
        return [
            (late.at_s - early.at_s) / (late.tokens - early.tokens)
            for early, late in pairwise(self.chunks)
            for _ in range(late.tokens - early.tokens)
        ]


def outcome_of(request: Request, reply: Reply, start_s: float, due_s: float | None) -> Outcome:
    """From a stream, on a clock that began at `start_s`; due_s: when it was to be sent, if the
    load says when. Raises UserError unless it has all tokens that were asked for."""
    chunks: list[Chunk] = []
    last: dict[str, Any] = {}
    for at_s, event in reply.events:
        if "meta_info" not in event:
            raise UserError(f"the server broke an answer off: {short(str(event))}")
        tokens = event["meta_info"]["completion_tokens"]
        if tokens > (chunks[-1].tokens if chunks else 0):
            chunks.append(Chunk(at_s - start_s, tokens))
        last = event
    made = chunks[-1].tokens if chunks else 0
    if made != request.new_tokens:
        reason = last.get("meta_info", {}).get("finish_reason")
        raise UserError(f"an answer has {made} of {request.new_tokens} tokens: {reason}")
    sent_s = reply.sent_s - start_s if due_s is None else due_s
    receipt = last["meta_info"].get("llm42") or {}
    return Outcome(request, sent_s, tuple(chunks), tuple(last["output_ids"]), receipt)


def percentiles(values: Iterable[float]) -> dict[str, Any]:
    """By nearest rank: each is the smallest value that so much of the sample does not exceed, so
    every number reported was measured. None where the sample is empty."""
    ordered = sorted(values)
    ranks = {f"p{p}": math.ceil(p * len(ordered) / 100) - 1 for p in (50, 90, 99)}
    found = {name: ordered[rank] if ordered else None for name, rank in ranks.items()}
    return {"count": len(ordered), **found}


def ratio(part: float | None, whole: float | None) -> float | None:
    """`part / whole`, None where either is missing or there is nothing to divide by."""
    return part / whole if part is not None and whole else None


def tokens_per_s(load: Sequence[Outcome]) -> float:
    """Output tokens over the time of the whole load, as SGLang's bench_serving has it.

    Every server is timed over the same work. Up to any earlier moment, one that has prefilled more
    prompts has less to show for it.
    """
    return sum(one.request.new_tokens for one in load) / time_s(load)


def time_s(load: Sequence[Outcome]) -> float:
    """From the first request sent to the last token."""
    return max(one.chunks[-1].at_s for one in load) - min(one.sent_s for one in load)


class Recompute(NamedTuple):
    """Of deterministic requests: what verification threw away, and what needed none."""

    requests: int
    rolled_back: int  # tokens
    rollbacks: int
    rate: float | None  # of all tokens made, the share rolled back; None where nothing was made
    canonical_step_rate: float | None  # of all tokens of the answers; None where there are none


def recompute(outcomes: Iterable[Outcome]) -> Recompute:
    """Raises UserError if a deterministic answer is not verified: it would measure nothing."""
    served = [outcome for outcome in outcomes if outcome.request.deterministic]
    if not all(outcome.receipt.get("verified") is True for outcome in served):
        raise UserError("the server does not verify deterministic answers: is it `llm42 serve`?")
    made = sum(len(outcome.output_ids) for outcome in served)
    lost = sum(outcome.receipt["tokens_rolled_back"] for outcome in served)
    rollbacks = sum(outcome.receipt["rollbacks"] for outcome in served)
    steps = sum(outcome.receipt["canonical_steps"] for outcome in served)
    return Recompute(len(served), lost, rollbacks, ratio(lost, made + lost), ratio(steps, made))
