"""One streamed answer, and the times that are defined on it: seconds since its load began."""

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
