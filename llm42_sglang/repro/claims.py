"""Is a response authentic? Its tokens are claimed, and the server checks them without generating.

The server runs canonical passes over prompt and claim, as over one prompt, and draws a token from
each row. So a check costs what a prefill does. A claim that is right is answered with the whole
answer and its receipt, which are compared with the claimed ones as a replay compares them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from llm42_sglang.repro.connection import GENERATE
from llm42_sglang.repro.endpoint import Endpoint
from llm42_sglang.repro.exchange import SavedExchange, claimed_in
from llm42_sglang.repro.judge import CheckVerdict
from llm42_sglang.repro.output import Output
from llm42_sglang.repro.proof import PublicKey
from llm42_sglang.repro.replay import (
    WORDS,
    compared,
    forgery,
    other_fingerprint,
    several_segments,
)
from llm42_sglang.repro.samples import samples_of
from llm42_sglang.repro.seeds import with_drawn_seed
from llm42_sglang.repro.wire import answer_of, claiming, deterministic_said


class ClaimResult(NamedTuple):
    """The verdict on a claimed answer."""

    verdict: CheckVerdict
    reason: str  # one line
    refuted: Mapping[str, Any] | None = None  # token, claimed, drawn, margin; None: not at a token

    def as_dict(self) -> dict[str, Any]:
        """The result in JSON types."""
        fields = {"verdict": WORDS[self.verdict], "reason": self.reason}
        return fields | dict(self.refuted or {})


def verify(
    endpoint: Endpoint, exchange: SavedExchange, key: PublicKey | None, where: object
) -> list[ClaimResult]:
    """Check every answer of an exchange: n samples have n verdicts, in order.

    key: what receipts must be signed with; None: the endpoint's, if both have one.
    where: names the file or the body in complaints.
    Raises UserError if the exchange is malformed, or the endpoint refuses the request.
    """
    return [verify_one(endpoint, one, key, where) for one in samples_of(exchange)]


def worst(results: Sequence[ClaimResult]) -> CheckVerdict:
    """The verdict on all samples together."""
    found = {result.verdict for result in results}
    order = (CheckVerdict.FAILED, CheckVerdict.UNKNOWN)
    return next((verdict for verdict in order if verdict in found), CheckVerdict.PASSED)


def verify_one(
    endpoint: Endpoint, exchange: SavedExchange, key: PublicKey | None, where: object
) -> ClaimResult:
    """Check one claimed answer, as `verify` does."""
    claimed = claimed_in(exchange, where)
    result = _by_its_tokens(endpoint, exchange, claimed)
    if result.verdict is CheckVerdict.FAILED or claimed.receipt is None:
        return result
    if found := forgery(endpoint, exchange, key):
        return ClaimResult(*found)
    return result


def _by_its_tokens(endpoint: Endpoint, exchange: SavedExchange, claimed: Output) -> ClaimResult:
    if reason := _not_checkable(endpoint, claimed):
        return ClaimResult(CheckVerdict.UNKNOWN, reason)
    assert endpoint.fingerprint is not None and claimed.ids, "checked above"
    if claimed.fingerprint not in (None, endpoint.fingerprint.digest):
        return ClaimResult(*other_fingerprint(endpoint, exchange))
    request = with_drawn_seed(exchange.path, exchange.request, claimed)
    params = request if exchange.path != GENERATE else request.get("sampling_params") or {}
    if deterministic_said(params) is False:
        if claimed.receipt is not None:
            reason = "the request has not asked for determinism, so the receipt is not its own"
            return ClaimResult(CheckVerdict.FAILED, reason)
        request = _as_deterministic(exchange.path, request)
    request = claiming(exchange.path, request, claimed.ids)
    reply = endpoint.connection.post(exchange.path, request).require_ok()
    again = answer_of(exchange.path, [reply.json()])
    if again.refuted is None:
        how = "its tokens were drawn again, with"
        return ClaimResult(*compared(endpoint, exchange, claimed, again.output, how))
    if claimed.fingerprint not in (None, again.output.fingerprint):  # weights have changed since
        return ClaimResult(*other_fingerprint(endpoint, exchange))
    return ClaimResult(CheckVerdict.FAILED, said_of(again.refuted), again.refuted)


def _not_checkable(endpoint: Endpoint, claimed: Output) -> str | None:
    """Why the claim cannot be checked at all: one line. None if it can."""
    if endpoint.fingerprint is None:
        return "this endpoint gives no receipts, so it cannot confirm one"
    if reason := several_segments(claimed):
        return reason
    if claimed.ids is None:
        advice = "ask with return_token_ids, or replay it with llm42 replay"
        return f"the response has no token ids; {advice}"
    if not claimed.ids:
        return "the answer has no token that could be claimed; replay it with llm42 replay"
    return None


def _as_deterministic(path: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """An ordinary request, as if it had asked for determinism."""
    if path != GENERATE:
        return _unsaid(request)
    return {**request, "sampling_params": _unsaid(request.get("sampling_params") or {})}


def _unsaid(params: Mapping[str, Any]) -> dict[str, Any]:
    others = {name: value for name, value in params.items() if name != "deterministic"}
    custom = {**(params.get("custom_params") or {})}
    custom.pop("deterministic", None)
    return {**others, "custom_params": custom}


def said_of(refuted: Mapping[str, Any]) -> str:
    """A refutation in one line."""
    at = f"token {refuted['token']}"
    if refuted["claimed"] is None:
        return f"{at}: the file ends there, and the answer goes on with {refuted['drawn']}"
    if refuted["drawn"] is None:
        return f"{at}: the answer ends there, and the file goes on with {refuted['claimed']}"
    margin = refuted["margin"]
    than = "larger" if margin >= 0 else "smaller"
    by = f"whose logit is {than} by {abs(margin):.6g}"
    return (
        f"{at}: the file says {refuted['claimed']}, and the server draws {refuted['drawn']}, {by}"
    )
