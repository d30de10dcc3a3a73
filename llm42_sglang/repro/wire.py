"""Bodies and answers of the two APIs: SGLang's native /generate, and OpenAI's. No I/O here."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from llm42_sglang.errors import UserError
from llm42_sglang.repro.connection import GENERATE
from llm42_sglang.repro.documents import first_complaint
from llm42_sglang.repro.output import Output, comparable, logprob_digest
from llm42_sglang.repro.suite import Case

Api = Literal["native", "openai"]
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
# What is asked for besides the text, most first; an endpoint that refuses it is asked for less.
DETAILS = ("ids and logprobs", "logprobs", "nothing")
_NATIVE_NAMES = {
    "max_tokens": "max_new_tokens",
    "min_tokens": "min_new_tokens",
    "seed": "sampling_seed",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request, with what is measured but not compared. Seconds from
    sending."""

    output: Output
    logprobs: tuple[float, ...] | None = None
    receipt: Mapping[str, Any] | None = None  # counters and all
    cached_tokens: int | None = None  # of the prompt, taken from the prefix cache; native API only
    end_to_end_s: float = 0.0
    first_token_s: float | None = None  # of a stream
    exchange: Mapping[str, Any] | None = None  # path, request and response; None of a stream

    def counter(self, name: str) -> int:
        """Of the receipt, such as `rollbacks`; 0 without one."""
        value = (self.receipt or {}).get(name, 0)
        return value if isinstance(value, int) else 0


def path_of(case: Case, api: Api) -> str:
    """Messages need the server's chat template, so they go to the OpenAI API everywhere."""
    if case.messages is not None:
        return CHAT
    return GENERATE if api == "native" else COMPLETIONS


def body_of(
    case: Case,
    path: str,
    model: str,
    deterministic: bool | None,
    stream: bool = False,
    details: str = DETAILS[0],
) -> dict[str, Any]:
    """The request's body. deterministic: None does not mention it, for servers that know no such
    field."""
    if path == GENERATE:
        return _native_body(case, deterministic, stream)
    body: dict[str, Any] = {"model": model, "stream": stream, **case.sampling.given()}
    alternatives = body.pop("top_logprobs", 0)
    if case.messages is not None:
        body["messages"] = [message.model_dump() for message in case.messages]
    else:
        body["prompt"] = case.prompt if case.input_ids is None else case.input_ids
    if details != "nothing":
        body["logprobs"] = True if path == CHAT else alternatives
        if path == CHAT and alternatives:
            body["top_logprobs"] = alternatives
    if details == DETAILS[0] and not (stream and path == CHAT):  # SGLang refuses ids there
        body["return_token_ids"] = True
    if deterministic is not None:
        body["deterministic"] = deterministic
    return body


def _native_body(case: Case, deterministic: bool | None, stream: bool) -> dict[str, Any]:
    params = {_NATIVE_NAMES.get(k, k): value for k, value in case.sampling.given().items()}
    alternatives = params.pop("top_logprobs", 0)
    if deterministic is not None:
        params["custom_params"] = {"deterministic": deterministic}
    asked = {"text": case.prompt} if case.input_ids is None else {"input_ids": case.input_ids}
    return asked | {
        "sampling_params": params,
        "return_logprob": True,
        "return_text_in_logprobs": True,
        "top_logprobs_num": alternatives,
        "stream": stream,
    }


def answer_of(path: str, events: Sequence[Any]) -> Answer:
    """From the events of a stream; a whole response is its one event. Raises UserError."""
    for event in events:
        if isinstance(event, dict) and event.get("error"):
            raise UserError(f"the server broke an answer off: {json.dumps(event)[:300]}")
    try:
        return _native_answer(events) if path == GENERATE else _openai_answer(events)
    except ValidationError as error:
        complaint = first_complaint(error)
    except UserError:
        raise
    except Exception as error:  # whatever an endpoint can send
        complaint = f"{error!r}: {str(events)[:200]}"
    raise UserError(f"the answer of {path} is malformed: {complaint}")


def _native_answer(events: Sequence[Mapping[str, Any]]) -> Answer:
    """SGLang's events are cumulative, or increments if the server was told so."""
    last = events[-1]
    meta = last["meta_info"]
    whole = len(last["output_ids"]) == meta.get("completion_tokens", len(last["output_ids"]))
    parts = [last] if whole else list(events)
    scored, alternatives = (
        [entry for part in parts for entry in part["meta_info"].get(name) or ()]
        for name in ("output_token_logprobs", "output_top_logprobs")
    )
    reason = meta.get("finish_reason") or {}
    if reason.get("type") == "abort":
        raise UserError(f"the server aborted a request: {reason.get('message')}")
    texts = [entry[2] for entry in scored]
    return _answer(
        text="".join(part.get("text", "") for part in parts),
        finish_reason=reason.get("type"),
        ids=[token for part in parts for token in part["output_ids"]],
        tokens=texts if all(isinstance(text, str) for text in texts) else [],
        logprobs=[entry[0] for entry in scored],
        alternatives=alternatives,
        receipt=meta.get("llm42"),
        cached_tokens=meta.get("cached_tokens"),
    )


def _openai_answer(events: Sequence[Mapping[str, Any]]) -> Answer:
    """Of one choice."""
    choices = [event["choices"][0] for event in events if event.get("choices")]
    if not choices:
        raise ValueError("no choices")
    ids = [
        token
        for choice in choices
        for token in choice.get("token_ids") or choice.get("response_token_ids") or ()
    ]
    tokens, logprobs, alternatives = _openai_logprobs(choices)
    return _answer(
        text="".join(_text_of(choice) for choice in choices),
        finish_reason=next((c["finish_reason"] for c in choices if c.get("finish_reason")), None),
        ids=ids or None,
        tokens=tokens,
        logprobs=logprobs,
        alternatives=alternatives,
        receipt=next((event["llm42"] for event in events if event.get("llm42")), None),
    )


def _text_of(choice: Mapping[str, Any]) -> str:
    """Of a completion, or of a chat: what it thinks and calls counts too."""
    if "text" in choice:
        return choice["text"] or ""
    said = choice.get("message") or choice.get("delta") or {}
    calls = said.get("tool_calls")
    parts = (said.get("reasoning_content"), said.get("content"), json.dumps(calls) if calls else "")
    return "".join(part or "" for part in parts)


def _openai_logprobs(
    choices: Iterable[Mapping[str, Any]],
) -> tuple[list[str], list[float], list[Any]]:
    tokens: list[str] = []
    values: list[float] = []
    alternatives: list[Any] = []
    for logprobs in (choice.get("logprobs") or {} for choice in choices):
        for entry in logprobs.get("content") or ():  # chat
            tokens.append(entry["token"])
            values.append(entry["logprob"])
            if entry.get("top_logprobs"):
                alternatives.append(entry["top_logprobs"])
        tokens += logprobs.get("tokens") or []
        values += logprobs.get("token_logprobs") or []
        alternatives += [one for one in logprobs.get("top_logprobs") or () if one]
    return tokens, values, alternatives


def _answer(
    text: str,
    finish_reason: str | None,
    ids: list[int] | None,
    tokens: list[str],
    logprobs: list[float],
    alternatives: Sequence[Any],
    receipt: Any,
    cached_tokens: int | None = None,
) -> Answer:
    output = Output(
        text=comparable(text),
        finish_reason=finish_reason,
        ids=ids,
        tokens=[comparable(token) for token in tokens] or None,
        logprobs=logprob_digest(logprobs, alternatives) if logprobs else None,
        receipt=receipt,
    )
    return Answer(output, tuple(logprobs) or None, receipt, cached_tokens)
