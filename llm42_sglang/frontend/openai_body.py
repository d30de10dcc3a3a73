"""Fingerprint and receipt in the bodies of the OpenAI endpoints, and what their requests say of us.

Where a receipt stands:
- a whole response: top-level `llm42`, one receipt, or with several choices a list in their order,
  null where a choice ended without one;
- a stream of chunks: `llm42` of the chunk that ends a choice is that choice's receipt;
- a stream of /v1/responses: in the `response` object of the event that ends it.
A choice that ended with an error of ours, among others that did not, has finish reason "abort", and
`errors` has its `{"index", "message", "code"}`: in a whole response, or in the chunk that ends it.
(Not `error`: there OpenAI's client raises, and the other choices would be lost.)
`system_fingerprint` stands at the top of every body, chunk and `response` object. Both are plain
attributes for users of OpenAI's Python client, which keeps fields that it does not know.
What `GET /v1/responses/{id}` retrieves later is SGLang's stored copy, without either.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import BaseModel, create_model

from llm42_sglang.frontend.options import FIELD, Refused

RECEIPT = "llm42"
FINGERPRINT = "system_fingerprint"
ERRORS = "errors"
# Fields of a request body that decide about determinism.
FIELDS = ("custom_params", FIELD, "seed")
ENDED = ("completed", "incomplete", "failed")  # status of a /v1/responses object


@dataclass
class Exchange:
    """One OpenAI request and its answer."""

    # What the body says and SGLang's request class dropped without a word.
    extras: Mapping[str, Any] = field(default_factory=dict)
    deterministic: bool = False
    receipts: dict[int, dict] = field(default_factory=dict)  # by index of the choice
    errors: dict[int, dict] = field(default_factory=dict)  # likewise, of choices that ended so

    def note(self, result: dict | list[dict]) -> None:
        """Keep receipts and errors of one result of the engine: a choice, or all of them."""
        if isinstance(result, list):
            items = [*enumerate(result)]
        else:
            items = [(result.get("index", 0), result)]
        for index, item in items:
            if receipt := item["meta_info"].get(RECEIPT):
                self.receipts[index] = receipt
            several = isinstance(result, list) or "index" in result
            if several and (reason := failure_of(item)):
                code = int(reason.pop("status_code"))  # SGLang ends the whole stream at one
                self.errors[index] = {"index": index, "message": reason["message"], "code": code}


def failure_of(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """The finish reason of a result that one of our errors has ended."""
    reason = result["meta_info"].get("finish_reason")
    if not isinstance(reason, dict) or reason.get("type") != "abort":
        return None
    ours = str(reason.get("message")).startswith("llm42: ")
    return reason if ours and reason.get("status_code") else None


def dropped_fields(body: Any, known: Collection[str]) -> dict[str, Any]:
    """The fields that ask something of us and that the request class, `known`, does not have."""
    if not isinstance(body, Mapping):
        return {}
    return {name: body[name] for name in FIELDS if name not in known and name in body}


def with_extras(params: Mapping[str, Any], extras: Mapping[str, Any]) -> dict[str, Any]:
    """SGLang's sampling parameters with the dropped fields in their places. Raises Refused."""
    carried = dict(params)
    custom: dict[str, Any] = {}
    # SGLang's own entries last: it has put them there for itself.
    for entries in (extras.get("custom_params"), params.get("custom_params")):
        if not isinstance(entries, Mapping | None):
            raise Refused(f"custom_params must be an object, got {entries!r}")
        custom |= entries or {}
    if (deterministic := extras.get(FIELD)) is not None:
        if custom.get(FIELD, deterministic) != deterministic:
            raise Refused(f"{FIELD} contradicts custom_params.{FIELD}")
        custom[FIELD] = deterministic
    if custom:
        carried["custom_params"] = custom
    if (seed := extras.get("seed")) is not None:
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise Refused(f"seed must be an integer, got {seed!r}")
        carried["sampling_seed"] = seed
    return carried


def stamped_body(body: BaseModel, exchange: Exchange, fingerprint: str) -> BaseModel:
    """The same response with fingerprint and receipt; unchanged while there is no receipt."""
    if not exchange.receipts:
        return body
    choices = len(getattr(body, "choices", None) or ()) or 1
    receipts = [exchange.receipts.get(index) for index in range(choices)]
    stamps: dict[str, Any] = {FINGERPRINT: fingerprint}
    stamps[RECEIPT] = receipts[0] if len(receipts) == 1 else receipts
    if exchange.errors:
        stamps[ERRORS] = [error for _, error in sorted(exchange.errors.items())]
    stamped_class = _stamped_class(type(body), tuple(stamps))
    return stamped_class.model_construct(**dict(body), **stamps)


@cache
def _stamped_class(plain: type[BaseModel], stamps: tuple[str, ...]) -> type[BaseModel]:
    """A subclass, because SGLang's response classes allow no extra attributes."""
    fields: dict[str, Any] = {name: (Any, ...) for name in stamps}
    return create_model(plain.__name__, __base__=plain, **fields)


def stamped_event(event: str, exchange: Exchange, fingerprint: str) -> str:
    """One server-sent event with fingerprint and, if it ends a choice, the choice's receipt."""
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
        if index in exchange.errors:
            target[ERRORS] = [exchange.errors[index]]
    return f"{head}{mark}{json.dumps(payload, separators=(',', ':'))}\n\n"
