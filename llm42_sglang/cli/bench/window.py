"""Output tokens per second while the load is steady.

The window reaches from the first request sent to the last one sent. In a closed loop exactly
`in_flight` requests are under way all that time; after it fewer and fewer are, and that tail is
left out, for every server alike. Tokens are counted up to the window's end, the ones of a chunk
spread evenly over the time since the chunk before: a run of committed tokens is no jump.
"""

from collections.abc import Sequence

from llm42_sglang.cli.bench.outcome import Outcome


def steady_tokens_per_s(
    outcomes: Sequence[Outcome], window_of: Sequence[Outcome] | None = None
) -> float:
    """Of some requests, in the window of the whole load (`window_of`, or the same requests), which
    needs more of them than were in flight at once."""
    sent_s = [outcome.sent_s for outcome in window_of or outcomes]
    begin_s, end_s = min(sent_s), max(sent_s)
    tokens = sum(one.tokens_at(end_s) - one.tokens_at(begin_s) for one in outcomes)
    return tokens / (end_s - begin_s)
