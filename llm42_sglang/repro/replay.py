"""Is a response authentic? Its request is executed again, and the two responses are compared.

The file is JSON: `{"request": BODY, "response": BODY}`. Both are as they went over the wire, on any
of the paths below. `llm42 record --receipts` adds `path`, and `fingerprint` with its facts.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import model_validator

from llm42_sglang.errors import UserError
from llm42_sglang.files import write_whole
from llm42_sglang.repro.connection import GENERATE
from llm42_sglang.repro.differences import Fingerprint, explain
from llm42_sglang.repro.documents import read_document
from llm42_sglang.repro.endpoint import Endpoint
from llm42_sglang.repro.judge import CheckVerdict
from llm42_sglang.repro.output import Output, mismatch
from llm42_sglang.repro.suite import Strict
from llm42_sglang.repro.wire import CHAT, COMPLETIONS, Answer, answer_of


class SavedExchange(Strict):
    """The content of the file: a request and its response."""

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


class ReplayResult(NamedTuple):
    """The verdict on a receipt, PASSED if it is authentic, and a reason of one line."""

    verdict: CheckVerdict
    reason: str


def load_exchange(path: Path) -> tuple[SavedExchange, Output]:
    """The file's content, and its response as an output with a receipt. Raises UserError."""
    exchange = read_document(SavedExchange, path)
    if isinstance(choices := exchange.response.get("choices"), list) and len(choices) > 1:
        raise UserError(f"{path} has several choices; a replay compares one")
    try:
        claimed = answer_of(exchange.path, [exchange.response]).output
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if claimed.receipt is None:
        raise UserError(f"{path}: the response carries no receipt, so there is nothing to replay")
    return exchange, claimed


def save_exchange(answer: Answer, fingerprint: Fingerprint | None, path: Path) -> None:
    """Write an answer's request and response, as a whole or not at all. Raises UserError."""
    assert answer.exchange is not None, "a stream is not one response"
    exchange = SavedExchange(**answer.exchange, fingerprint=fingerprint)
    content = exchange.model_dump(mode="json")
    write_whole(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def replay(endpoint: Endpoint, exchange: SavedExchange, claimed: Output) -> ReplayResult:
    """Execute a saved request again and judge. Raises UserError if the endpoint refuses it."""
    reply = endpoint.connection.post(exchange.path, exchange.request | {"stream": False})
    again = answer_of(exchange.path, [reply.require_ok().json()]).output
    claim, now = claimed.receipt, again.receipt
    assert claim is not None, "load_exchange refuses a response without a receipt"
    if now is None:
        reason = "this endpoint gives no receipts, so it cannot confirm one"
        return ReplayResult(CheckVerdict.UNKNOWN, reason)
    if claim.fingerprint != now.fingerprint:
        change = "the file does not hold that fingerprint's facts"
        if exchange.fingerprint is not None:
            change = explain(exchange.fingerprint, endpoint.fingerprint)
        return ReplayResult(CheckVerdict.UNKNOWN, f"made under another fingerprint: {change}")
    if difference := mismatch(claimed, again):
        return ReplayResult(CheckVerdict.FAILED, difference.describe("the file says"))
    if not (claim.verified and now.verified):
        reason = "same bits, but one of the receipts says that they are not verified"
        return ReplayResult(CheckVerdict.UNKNOWN, reason)
    if claim != now:
        fields = zip(claim, now, strict=True)
        wrong = ", ".join(f"{name} {a}, not {b}" for (name, a), (_, b) in fields if a != b)
        return ReplayResult(CheckVerdict.FAILED, f"the receipt claims {wrong}")
    reason = "executed again, it gave the same bits and the same receipt"
    return ReplayResult(CheckVerdict.PASSED, reason)
