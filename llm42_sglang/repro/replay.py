"""A request with its response, and whether it is authentic: it is executed again and compared.

The file is JSON: `{"request": BODY, "response": BODY}`, both as they went over the wire, on any of
the paths below; `llm42 record --receipts` adds `path` and the `fingerprint` with its facts.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import model_validator

from llm42_sglang.errors import UserError
from llm42_sglang.files import write_whole
from llm42_sglang.repro.connection import GENERATE
from llm42_sglang.repro.differences import Fingerprint, explain
from llm42_sglang.repro.documents import read_model
from llm42_sglang.repro.endpoint import Endpoint
from llm42_sglang.repro.judge import Verdict
from llm42_sglang.repro.output import Output, mismatch
from llm42_sglang.repro.suite import Strict
from llm42_sglang.repro.wire import CHAT, COMPLETIONS, Answer, answer_of


class Saved(Strict):
    """The file's content."""

    format: Literal["llm42-receipt"] = "llm42-receipt"
    version: Literal[1] = 1
    path: Literal["/generate", "/v1/completions", "/v1/chat/completions"]
    request: dict[str, Any]
    response: dict[str, Any]
    fingerprint: Fingerprint | None = None

    @model_validator(mode="before")
    @classmethod
    def _path_of_the_response(cls, content: Any) -> Any:
        match content:
            case {"response": {"meta_info": _}}:
                path = GENERATE
            case {"response": {"object": "chat.completion"}}:
                path = CHAT
            case {"response": {"object": "text_completion"}}:
                path = COMPLETIONS
            case _:
                return content  # the fields say what is missing
        return {"path": path, **content}


class Replayed(NamedTuple):
    """What came of it. PASSED: authentic. The reason is one line."""

    verdict: Verdict
    reason: str


def load_saved(path: Path) -> tuple[Saved, Output]:
    """The file, and its response as an output with a receipt. Raises UserError."""
    saved = read_model(Saved, path)
    if isinstance(choices := saved.response.get("choices"), list) and len(choices) > 1:
        raise UserError(f"{path} has several choices; a replay compares one")
    try:
        claimed = answer_of(saved.path, [saved.response]).output
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if claimed.receipt is None:
        raise UserError(f"{path}: the response carries no receipt, so there is nothing to replay")
    return saved, claimed


def save_exchange(answer: Answer, fingerprint: Fingerprint | None, path: Path) -> None:
    """Whole or not at all. Raises UserError."""
    assert answer.exchange is not None, "a stream has no one response"
    saved = Saved(**answer.exchange, fingerprint=fingerprint)
    write_whole(path, json.dumps(saved.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")


def replay(endpoint: Endpoint, saved: Saved, claimed: Output) -> Replayed:
    """Execute a saved request again. Raises UserError if the endpoint refuses it."""
    reply = endpoint.connection.post(saved.path, saved.request | {"stream": False})
    again = answer_of(saved.path, [reply.require_ok().json()]).output
    claim, now = claimed.receipt, again.receipt
    assert claim is not None, "load_saved refuses a response without a receipt"
    if now is None:
        reason = "this endpoint gives no receipts, so it cannot vouch for any"
        return Replayed(Verdict.UNKNOWN, reason)
    if claim.fingerprint != now.fingerprint:
        change = "the file does not say of what it was made"
        if saved.fingerprint is not None:
            change = explain(saved.fingerprint, endpoint.fingerprint)
        return Replayed(Verdict.UNKNOWN, f"made under another fingerprint: {change}")
    if difference := mismatch(claimed, again):
        return Replayed(Verdict.FAILED, difference.told("the file says"))
    if not (claim.verified and now.verified):
        reason = "same bits, but a receipt says that they are not verified"
        return Replayed(Verdict.UNKNOWN, reason)
    if claim != now:
        pairs = zip(claim, now, strict=True)
        false = ", ".join(f"{name} {a}, not {b}" for (name, a), (_, b) in pairs if a != b)
        return Replayed(Verdict.FAILED, f"the receipt claims {false}")
    return Replayed(Verdict.PASSED, "executed again, it gave the same bits and the same receipt")
