"""Is a receipt authentic? The request is executed again, and everything is compared."""

from dataclasses import dataclass

from llm42_sglang.repro.differences import explain
from llm42_sglang.repro.endpoint import Endpoint
from llm42_sglang.repro.judge import Verdict
from llm42_sglang.repro.output import Mismatch, Stamp, mismatch
from llm42_sglang.repro.receipt_file import Saved
from llm42_sglang.repro.wire import Answer, answer_of


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it. PASSED: authentic."""

    verdict: Verdict
    reason: str  # one line
    claimed: Answer
    again: Answer
    mismatch: Mismatch | None


def replay(endpoint: Endpoint, saved: Saved, claimed: Answer) -> Replayed:
    """Execute a saved request again. Raises UserError if the endpoint refuses it."""
    again = answer_of(saved.path, endpoint.send(saved.path, saved.request))
    found = mismatch(claimed.output, again.output)
    verdict, reason = _judged(endpoint, saved, claimed.output.receipt, again.output.receipt, found)
    return Replayed(verdict, reason, claimed, again, found)


def _judged(
    endpoint: Endpoint,
    saved: Saved,
    claim: Stamp | None,
    now: Stamp | None,
    found: Mismatch | None,
) -> tuple[Verdict, str]:
    assert claim is not None, "load_saved refuses a response without a receipt"
    if now is None:
        return Verdict.UNKNOWN, "this endpoint gives no receipts, so it cannot vouch for any"
    if claim.fingerprint != now.fingerprint:
        return Verdict.UNKNOWN, f"made under another fingerprint: {_change(endpoint, saved)}"
    if found is not None:
        return Verdict.FAILED, found.told("the file says")
    if not (claim.verified and now.verified):
        return Verdict.UNKNOWN, "same bits, but a receipt says that they are not verified"
    if claim != now:
        return Verdict.FAILED, f"the receipt claims {_claims(claim, now)}"
    return Verdict.PASSED, "executed again, it gave the same bits and the same receipt"


def _change(endpoint: Endpoint, saved: Saved) -> str:
    if saved.fingerprint is None:
        return "the file does not say of what it was made"
    return explain(saved.fingerprint, endpoint.fingerprint)


def _claims(claim: Stamp, now: Stamp) -> str:
    pairs = zip(claim, now, strict=True)
    return ", ".join(f"{name} {a}, not {b}" for (name, a), (_, b) in pairs if a != b)
