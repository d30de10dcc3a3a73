"""When a deterministic request may end.

A candidate that could end its request makes the page due at once, so that the client does not wait.
That is a suspicion only. SGLang decides on committed tokens.
"""

from http import HTTPStatus

from sglang.srt.managers.schedule_batch import FINISH_ABORT, Req

from llm42_sglang.frontend.patterns import error, search

NOTHING_LEFT = (
    "no token is left to choose: what regex, json_schema, ebnf or structural_tag allows, "
    "logit_bias or min_new_tokens forbids; relax one of them"
)


def nothing_left() -> FINISH_ABORT:
    """The end of a request whose row allows no token."""
    return FINISH_ABORT(f"llm42: {NOTHING_LEFT}", HTTPStatus.BAD_REQUEST, "BadRequestError")


def stop_tokens(req: Req) -> frozenset[int]:
    """The tokens that end the request."""
    stops = set(req.sampling_params.stop_token_ids or ()) | set(req.eos_token_ids or ())
    if req.tokenizer is not None:
        stops.add(req.tokenizer.eos_token_id)
        stops.update(getattr(req.tokenizer, "additional_stop_token_ids", None) or ())
    return frozenset(stops - {None})


def may_finish(req, stops: frozenset[int], token: int) -> bool:
    """Whether `token`, as the next candidate of a DeterministicReq, could end it."""
    params, candidates = req.sampling_params, req.track.candidates
    if len(req.output_ids) + len(candidates) + 1 >= params.max_new_tokens:
        return True
    if not params.ignore_eos and token in stops:
        return True
    if not params.stop_strs and not params.stop_regex_strs:
        return False
    length = max(params.stop_str_max_len, params.stop_regex_max_len) + 1
    before = [*req.output_ids[-length:], *candidates, token]
    tail = req.tokenizer.decode(before[-length:])
    return any(stop in tail for stop in params.stop_strs) or any(
        _matches(stop, tail) for stop in params.stop_regex_strs
    )


def _matches(pattern: str, text: str) -> bool:
    try:
        return search(pattern, text) is not None
    except error:
        return True  # SGLang will say so, on the committed tokens
