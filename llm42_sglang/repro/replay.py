"""A request with its response, and whether it is authentic: it is executed again and compared.

The file is JSON: `{"request": BODY, "response": BODY}`, both as they went over the wire, on any of
the paths below; `llm42 record --receipts` adds `path` and the `fingerprint` with its facts.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from llm42_sglang.errors import UserError
from llm42_sglang.files import write_whole
from llm42_sglang.repro.connection import GENERATE
from llm42_sglang.repro.differences import Fingerprint, explain
from llm42_sglang.repro.documents import read_object, require_format, validated
from llm42_sglang.repro.endpoint import Endpoint
from llm42_sglang.repro.judge import Verdict
from llm42_sglang.repro.output import Output, Stamp, mismatch
from llm42_sglang.repro.wire import CHAT, COMPLETIONS, Answer, answer_of

FORMAT = "llm42-receipt"
VERSION = 1
_PATHS = {"chat.completion": CHAT, "text_completion": COMPLETIONS}  # by the response's `object`


class Saved(BaseModel):
    """The file's content."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["llm42-receipt"] = FORMAT
    version: Literal[1] = VERSION
    path: Literal["/generate", "/v1/completions", "/v1/chat/completions"]
    request: dict[str, Any]
    response: dict[str, Any]
    fingerprint: Fingerprint | None = None


class Replayed(NamedTuple):
    """What came of it. PASSED: authentic. The reason is one line."""

    verdict: Verdict
    reason: str


def load_saved(path: Path) -> tuple[Saved, Output]:
    """The file, and its response as an output with a receipt. Raises UserError."""
    content = read_object(path)
    if "format" in content:
        require_format(path, content, FORMAT, VERSION)
    if isinstance(content.get("response"), dict) and "path" not in content:
        content["path"] = _path_of(path, content["response"])
    saved = validated(Saved, content, path)
    if len(saved.response.get("choices") or [0]) > 1:
        raise UserError(f"{path} has several choices; a replay compares one")
    try:
        claimed = answer_of(saved.path, saved.response).output
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if claimed.receipt is None:
        raise UserError(f"{path}: the response carries no receipt, so there is nothing to replay")
    return saved, claimed


def save_exchange(answer: Answer, fingerprint: Fingerprint | None, path: Path) -> None:
    """Whole or not at all. Raises UserError."""
    assert answer.exchange is not None, "a stream has no one response"
    saved = Saved(**answer.exchange._asdict(), fingerprint=fingerprint)
    write_whole(path, json.dumps(saved.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")


def replay(endpoint: Endpoint, saved: Saved, claimed: Output) -> Replayed:
    """Execute a saved request again. Raises UserError if the endpoint refuses it."""
    again = answer_of(saved.path, endpoint.send(saved.path, saved.request)).output
    claim, now = claimed.receipt, again.receipt
    assert claim is not None, "load_saved refuses a response without a receipt"
    if now is None:
        reason = "this endpoint gives no receipts, so it cannot vouch for any"
        return Replayed(Verdict.UNKNOWN, reason)
    if claim.fingerprint != now.fingerprint:
        change = _change(endpoint, saved)
        return Replayed(Verdict.UNKNOWN, f"made under another fingerprint: {change}")
    if difference := mismatch(claimed, again):
        return Replayed(Verdict.FAILED, difference.told("the file says"))
    if not (claim.verified and now.verified):
        reason = "same bits, but a receipt says that they are not verified"
        return Replayed(Verdict.UNKNOWN, reason)
    if claim != now:
        return Replayed(Verdict.FAILED, f"the receipt claims {_claims(claim, now)}")
    return Replayed(Verdict.PASSED, "executed again, it gave the same bits and the same receipt")


def _path_of(path: Path, response: dict[str, Any]) -> str:
    known = GENERATE if "meta_info" in response else _PATHS.get(response.get("object", ""))
    if known is None:
        raise UserError(f"{path}: the response is of no path known here; add a `path`")
    return known


def _change(endpoint: Endpoint, saved: Saved) -> str:
    if saved.fingerprint is None:
        return "the file does not say of what it was made"
    return explain(saved.fingerprint, endpoint.fingerprint)


def _claims(claim: Stamp, now: Stamp) -> str:
    pairs = zip(claim, now, strict=True)
    return ", ".join(f"{name} {a}, not {b}" for (name, a), (_, b) in pairs if a != b)
