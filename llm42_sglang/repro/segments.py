"""An answer of several segments, made while weights were updated: each segment is a request alone.

Tokens before it are prompt to a segment. So it can be executed again by a server that has its
weights, unless an option looks at output tokens, or the prompt's token ids are not known.
"""

from collections.abc import Mapping
from typing import Any

from llm42_sglang.repro.connection import GENERATE
from llm42_sglang.repro.output import Output
from llm42_sglang.repro.seeds import with_drawn_seed

# Sampling parameters of /generate that look at the output so far, unless they have this value.
_LOOK_BACK = {
    **{"frequency_penalty": 0, "presence_penalty": 0, "repetition_penalty": 1, "min_new_tokens": 0},
    **dict.fromkeys(("json_schema", "regex", "ebnf", "structural_tag", "stop_regex"), ""),
    "stop": [],
}


class NotReplayable(ValueError):
    """A segment cannot be executed alone. The message is one line that says why."""


def request_of(path: str, request: Mapping[str, Any], claimed: Output, index: int) -> dict:
    """The request whose whole answer is segment `index`, from 0. Raises NotReplayable."""
    prompt = request.get("input_ids")
    if path != GENERATE or not isinstance(prompt, list) or claimed.ids is None:
        raise NotReplayable("a segment is replayed on /generate, from input_ids and output_ids")
    request = with_drawn_seed(path, request, claimed)
    params = request.get("sampling_params") or {}
    for name, neutral in _LOOK_BACK.items():
        if params.get(name) not in (None, neutral, ""):
            raise NotReplayable(f"{name} looks at output before the segment")
    start, end, last = _span(claimed, index)
    if _span(claimed, -1)[1] != len(claimed.ids):
        raise NotReplayable("the segments do not add up to the output")
    most = (params.get("max_new_tokens") or 128) - start if last else end - start
    alone = {**params, "max_new_tokens": most}
    return {**request, "input_ids": [*prompt, *claimed.ids[:start]], "sampling_params": alone}


def part_of(claimed: Output, index: int) -> Output:
    """What the answer to `request_of` must be, but for its receipt."""
    assert claimed.ids is not None
    start, end, last = _span(claimed, index)
    reason = claimed.finish_reason if last else "length"
    return Output(text="", finish_reason=reason, ids=claimed.ids[start:end])


def logprobs_of(response: Mapping[str, Any], claimed: Output, index: int) -> list[Any]:
    """A segment's logprobs and token ids in the whole answer; none if it has none."""
    start, end, _ = _span(claimed, index)
    return logprobs_in(response)[start:end]


def logprobs_in(response: Mapping[str, Any]) -> list[Any]:
    """The logprobs and token ids of an answer of /generate; none if it has none."""
    scored = response.get("meta_info", {}).get("output_token_logprobs") or []
    return [entry[:2] for entry in scored]


def _span(claimed: Output, index: int) -> tuple[int, int, bool]:
    """A segment's first output token, one past its last, and whether it is the last segment."""
    assert claimed.receipt is not None and claimed.receipt.segments is not None
    tokens = [segment.tokens for segment in claimed.receipt.segments]
    index %= len(tokens)
    before = sum(tokens[:index])
    return before, before + tokens[index], index == len(tokens) - 1
