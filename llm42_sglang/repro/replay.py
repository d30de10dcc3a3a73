"""Is a response authentic? Its request is executed again, and the two responses are compared.

If the server drew the seed, the receipt names it, and the request is executed with that one.
`repro.claims` finds the same verdict without generating the answer again.
"""

from typing import NamedTuple

from llm42_sglang.core.receipts import SIGNATURE
from llm42_sglang.errors import UserError
from llm42_sglang.repro.differences import explain
from llm42_sglang.repro.endpoint import Endpoint
from llm42_sglang.repro.exchange import SavedExchange
from llm42_sglang.repro.judge import CheckVerdict
from llm42_sglang.repro.output import Output, mismatch
from llm42_sglang.repro.proof import PublicKey, flaw_of, flaw_of_signature
from llm42_sglang.repro.seeds import with_drawn_seed
from llm42_sglang.repro.segments import (
    NotReplayable,
    logprobs_in,
    logprobs_of,
    part_of,
    request_of,
)
from llm42_sglang.repro.wire import answer_of, receipt_in

WORDS = {
    CheckVerdict.PASSED: "AUTHENTIC",
    CheckVerdict.FAILED: "NOT AUTHENTIC",
    CheckVerdict.UNKNOWN: "UNKNOWN",
}


class ReplayResult(NamedTuple):
    """The verdict on an answer, PASSED if it is authentic, and a reason of one line."""

    verdict: CheckVerdict
    reason: str


def forgery(
    endpoint: Endpoint, exchange: SavedExchange, key: PublicKey | None
) -> ReplayResult | None:
    """What the file itself shows: a hash or a signature that does not hold. None if all do.

    key: what the receipt must be signed with. None: the endpoint's, if both have one.
    """
    receipt = receipt_in(exchange.path, exchange.response) or {}
    if flaw := flaw_of(exchange.path, exchange.request, exchange.response):
        return ReplayResult(CheckVerdict.FAILED, flaw)
    if key is None:
        if endpoint.public_key is None or not receipt.keys() & {*SIGNATURE}:
            return None
        key = PublicKey(endpoint.public_key)
        if receipt.get("key") != key.id and not key.signed(receipt):
            reason = f"signed with key {receipt.get('key')}, and this endpoint has {key.id}"
            return ReplayResult(CheckVerdict.UNKNOWN, f"{reason}; give --public-key")
    flaw = flaw_of_signature(receipt, key)
    return ReplayResult(CheckVerdict.FAILED, flaw) if flaw else None


def replay_segment(
    endpoint: Endpoint, exchange: SavedExchange, claimed: Output, number: int
) -> ReplayResult:
    """Execute segment `number`, from 1, of an answer again and judge it alone.

    Raises UserError if there is no such segment, or the endpoint refuses the request.
    """
    claim = claimed.receipt
    assert claim is not None, "load_exchange refuses a response without a receipt"
    segments = claim.segments or ()
    if not 1 <= number <= len(segments):
        raise UserError(f"--segment {number}: the answer has {len(segments) or 'no'} segments")
    segment = segments[number - 1]
    if endpoint.fingerprint is None or endpoint.fingerprint.digest != segment.fingerprint:
        reason = f"segment {number} was made under fingerprint {segment.fingerprint}"
        return ReplayResult(CheckVerdict.UNKNOWN, f"{reason}, and this endpoint has another one")
    try:
        request = request_of(exchange.path, exchange.request, claimed, number - 1)
    except NotReplayable as error:
        return ReplayResult(CheckVerdict.UNKNOWN, f"segment {number} cannot be replayed: {error}")
    reply = endpoint.connection.post(exchange.path, request | {"stream": False})
    response = reply.require_ok().json()
    again = answer_of(exchange.path, [response]).output
    if not again.verified or again.fingerprint != segment.fingerprint:
        reason = "this endpoint has not executed it under the segment's fingerprint"
        return ReplayResult(CheckVerdict.UNKNOWN, reason)
    expected = part_of(claimed, number - 1)
    got = again.model_copy(update={"text": "", "tokens": None, "logprobs": None, "receipt": None})
    if difference := mismatch(expected, got):
        said = difference.describe("the file says")
        return ReplayResult(CheckVerdict.FAILED, f"in segment {number}, {said}")
    if logprobs_of(exchange.response, claimed, number - 1) != logprobs_in(response):
        return ReplayResult(CheckVerdict.FAILED, f"the logprobs of segment {number} are others")
    reason = f"segment {number}, executed again, gave the same {segment.tokens} tokens"
    return ReplayResult(CheckVerdict.PASSED, reason)


def replay(endpoint: Endpoint, exchange: SavedExchange, claimed: Output) -> ReplayResult:
    """Execute a saved request again and judge. Raises UserError if the endpoint refuses it."""
    if reason := several_segments(claimed):
        return ReplayResult(CheckVerdict.UNKNOWN, reason)
    request = with_drawn_seed(exchange.path, exchange.request, claimed) | {"stream": False}
    reply = endpoint.connection.post(exchange.path, request)
    again = answer_of(exchange.path, [reply.require_ok().json()]).output
    how = "executed again, it gave"
    return compared(endpoint, exchange, claimed, again, how)


def several_segments(claimed: Output) -> str | None:
    """Why an answer cannot be judged as a whole: one line. None if it can."""
    segments = claimed.receipt.segments if claimed.receipt else None
    if not segments:
        return None
    parts = ", ".join(f"{s.tokens} under {s.fingerprint}" for s in segments)
    return f"weights were updated while it was made ({parts} tokens); replay each --segment"


def other_fingerprint(endpoint: Endpoint, exchange: SavedExchange) -> ReplayResult:
    """The verdict on an answer of another fingerprint than the endpoint's."""
    change = "the file does not hold that fingerprint's facts"
    if exchange.fingerprint is not None:
        change = explain(exchange.fingerprint, endpoint.fingerprint)
    return ReplayResult(CheckVerdict.UNKNOWN, f"made under another fingerprint: {change}")


def compared(
    endpoint: Endpoint, exchange: SavedExchange, claimed: Output, again: Output, how: str
) -> ReplayResult:
    """Judge a claimed answer by what the endpoint has answered. how: how it came to that."""
    claim, now = claimed.receipt, again.receipt
    if now is None:
        reason = "this endpoint gives no receipts, so it cannot confirm one"
        return ReplayResult(CheckVerdict.UNKNOWN, reason)
    if claim is not None and claim.fingerprint != now.fingerprint:
        return other_fingerprint(endpoint, exchange)
    if claim is not None and claim.version != now.version:
        reason = f"the receipt is of version {claim.version}, and this endpoint's {now.version}"
        return ReplayResult(CheckVerdict.UNKNOWN, reason)
    if difference := mismatch(claimed, again):
        return ReplayResult(CheckVerdict.FAILED, difference.describe("the file says"))
    if claim is None:
        reason = "it is this server's answer, but it has no receipt that says so"
        return ReplayResult(CheckVerdict.UNKNOWN, reason)
    if not (claim.verified and now.verified):
        reason = "same bits, but one of the receipts says that they are not verified"
        return ReplayResult(CheckVerdict.UNKNOWN, reason)
    if claim != now:
        fields = zip(claim, now, strict=True)
        wrong = ", ".join(f"{name} {a}, not {b}" for (name, a), (_, b) in fields if a != b)
        return ReplayResult(CheckVerdict.FAILED, f"the receipt claims {wrong}")
    return ReplayResult(CheckVerdict.PASSED, f"{how} the same bits and the same receipt")
