"""The OpenAI endpoints: our fields in their requests, fingerprint and receipt in their responses.

`system_fingerprint` stands at the top of every body, chunk and `response` object.

The receipt is the field `llm42`:
- A whole response has it at the top: one receipt, or with several choices a list in their order.
  A choice that ended without a receipt has null there.
- In a stream of chunks, the chunk that ends a choice has that choice's receipt.
- In a stream of /v1/responses, the `response` object of the last event has it.

One of several choices may end with an error of ours. Its finish reason is then "abort". The field
`errors` has `{"index", "message", "code"}` for it, in the whole response or in the chunk that ends
the choice. The field is not called `error`: OpenAI's client raises on that name, and the other
choices would be lost.

OpenAI's Python client keeps unknown fields, so all of these are plain attributes for its users.
`GET /v1/responses/{id}` returns SGLang's stored copy, which has none of them.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import BaseModel, create_model

from llm42_sglang.core.seeds import FRESH
from llm42_sglang.frontend.nonce import NONCE, with_nonce
from llm42_sglang.frontend.options import FIELD, Refused

RECEIPT = "llm42"
FINGERPRINT = "system_fingerprint"
ERRORS = "errors"
# The fields of a request body that decide about determinism, and the nonce.
FIELDS = ("custom_params", FIELD, "seed", NONCE)
ENDED = ("completed", "incomplete", "failed")  # statuses of a /v1/responses object at its end


@dataclass
class Exchange:
    """One OpenAI request and its answer."""

    # Fields of the body that SGLang's request class does not have, and drops.
    extras: Mapping[str, Any] = field(default_factory=dict)
    deterministic: bool = False
    receipts: dict[int, dict] = field(default_factory=dict)  # by index of the choice
    errors: dict[int, dict] = field(default_factory=dict)  # by index of the choice

    def note(self, result: dict | list[dict]) -> None:
        """Keep the receipts and errors of a result of the engine: of one choice, or of all."""
        if isinstance(result, list):
            items = [*enumerate(result)]
        else:
            items = [(result.get("index", 0), result)]
        for index, item in items:
            if receipt := item["meta_info"].get(RECEIPT):
                self.receipts[index] = receipt
            several = isinstance(result, list) or "index" in result
            if several and (reason := failure_of(item)):
                code = int(reason.pop("status_code"))  # SGLang would end the whole stream at it
                self.errors[index] = {"index": index, "message": reason["message"], "code": code}


def failure_of(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the finish reason of a result that an error of ours ended; None for any other."""
    reason = result["meta_info"].get("finish_reason")
    if not isinstance(reason, dict) or reason.get("type") != "abort":
        return None
    ours = str(reason.get("message")).startswith("llm42: ")
    return reason if ours and reason.get("status_code") else None


def dropped_fields(body: Any, known: Collection[str]) -> dict[str, Any]:
    """Return the entries of `body` under FIELDS that SGLang's class, with `known` fields, drops."""
    if not isinstance(body, Mapping):
        return {}
    return {name: body[name] for name in FIELDS if name not in known and name in body}


def with_extras(params: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, Any]:
    """Return SGLang's sampling parameters with the dropped fields added. Raises Refused."""
    completed = dict(params)
    custom: dict[str, Any] = {}
    # SGLang's own entries come last, so that they win.
    for entries in (extras.get("custom_params"), params.get("custom_params")):
        if not isinstance(entries, Mapping | None):
            raise Refused(f"custom_params must be an object, got {entries!r:.40}")
        custom |= entries or {}
    if (deterministic := extras.get(FIELD)) is not None:
        if custom.get(FIELD, deterministic) != deterministic:
            raise Refused(f"{FIELD} contradicts custom_params.{FIELD}; send only one of them")
        custom[FIELD] = deterministic
    custom = with_nonce(custom, extras.get(NONCE))
    if custom:
        completed["custom_params"] = custom
    if (seed := extras.get("seed")) is not None:
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise Refused(f'seed must be an integer or "{FRESH}", got {seed!r:.40}')
        completed["sampling_seed"] = seed
    return completed


def stamped_body(body: BaseModel, exchange: Exchange, fingerprint: str) -> BaseModel:
    """Return the response with fingerprint and receipts; without a receipt, `body` itself."""
    if not exchange.receipts:
        return body
    choices = len(getattr(body, "choices", None) or ()) or 1
    receipts = [exchange.receipts.get(index) for index in range(choices)]
    known = (receipt.get("fingerprint") for receipt in receipts if receipt)
    stamps: dict[str, Any] = {FINGERPRINT: next(filter(None, known), fingerprint)}
    stamps[RECEIPT] = receipts[0] if len(receipts) == 1 else receipts
    if exchange.errors:
        stamps[ERRORS] = [error for _, error in sorted(exchange.errors.items())]
    stamped_class = _stamped_class(type(body), tuple(stamps))
    return stamped_class.model_construct(**dict(body), **stamps)


@cache
def _stamped_class(plain: type[BaseModel], stamps: tuple[str, ...]) -> type[BaseModel]:
    """Return a subclass with these fields; SGLang's response classes allow no others."""
    fields: dict[str, Any] = {name: (Any, ...) for name in stamps}
    return create_model(plain.__name__, __base__=plain, **fields)


def stamped_event(event: str, exchange: Exchange, fingerprint: str) -> str:
    """Return a server-sent event with the fingerprint, and the receipt of a choice that it ends."""
    head, mark, data = event.partition("data: ")
    if not data.startswith("{"):
        return event  # "[DONE]"
    payload = json.loads(data)
    if "choices" in payload:
        target = payload
        ended = [choice["index"] for choice in payload["choices"] if choice.get("finish_reason")]
    elif isinstance(payload.get("response"), dict):
        target = payload["response"]
        ended = [0] if target.get("status") in ENDED else []
    else:
        return event  # an error, or a delta of /v1/responses
    target[FINGERPRINT] = fingerprint
    for index in ended:
        if index in exchange.receipts:
            target[RECEIPT] = exchange.receipts[index]
            target[FINGERPRINT] = exchange.receipts[index].get("fingerprint", fingerprint)
        if index in exchange.errors:
            target[ERRORS] = [exchange.errors[index]]
    return f"{head}{mark}{json.dumps(payload, separators=(',', ':'))}\n\n"
