"""Bodies and answers of SGLang's native API, /generate, and of OpenAI's. No I/O happens here."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from llm42_sglang.core.receipts import REFUTED
from llm42_sglang.errors import UserError
from llm42_sglang.repro.connection import GENERATE
from llm42_sglang.repro.documents import first_complaint
from llm42_sglang.repro.output import Output, ToolCall, comparable, logprob_digest
from llm42_sglang.repro.suite import Case

Api = Literal["native", "openai"]
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
# What is asked for besides the text. An endpoint that refuses one entry is asked for the next.
DETAILS = ("ids and logprobs", "logprobs", "nothing")
CLAIM = "claim"  # in custom_params
_ALTERNATIVES = (  # in meta_info, besides the logprobs of the output
    "output_top_logprobs",
    "output_token_ids_logprobs",
    *("input_token_logprobs", "input_top_logprobs", "input_token_ids_logprobs"),
)
_NATIVE_NAMES = {
    "max_tokens": "max_new_tokens",
    "min_tokens": "min_new_tokens",
    "seed": "sampling_seed",
}
# Fields of a case that the API at a path does not have. It would drop some of them without a word.
_OF_CHATS = f"only {CHAT} has it: write the prompt as messages"
_FOREIGN = {
    GENERATE: {
        "tools": _OF_CHATS,
        "tool_choice": _OF_CHATS,
        "response_format": f"{COMPLETIONS} and {CHAT} have it: use --api openai, or json_schema",
    },
    COMPLETIONS: {"tools": _OF_CHATS, "tool_choice": _OF_CHATS},
    CHAT: {"json_schema": f"{GENERATE} and {COMPLETIONS} have it: use response_format"},
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request: the output, and what is not compared. Times are from sending.

    With several choices, logprobs and receipt are those of the first one.
    """

    output: Output
    logprobs: tuple[float, ...] | None = None
    receipt: Mapping[str, Any] | None = None  # with its counters
    cached_tokens: int | None = None  # prompt tokens found in the prefix cache; native API only
    end_to_end_s: float = 0.0
    first_token_s: float | None = None  # None unless streamed
    exchange: Mapping[str, Any] | None = None  # path, request and response; None if streamed
    # Where a claim is wrong. The output is then the beginning of the right one.
    refuted: Mapping[str, Any] | None = None

    def counter(self, name: str) -> int:
        """A counter of the receipt, such as `rollbacks`; 0 without a receipt."""
        value = (self.receipt or {}).get(name, 0)
        return value if isinstance(value, int) else 0


def path_of(case: Case, api: Api) -> str:
    """The path that a case is sent to. Messages go to OpenAI's API, which has the chat template."""
    if case.messages is not None:
        return CHAT
    return GENERATE if api == "native" else COMPLETIONS


def require_fields(case: Case, path: str) -> None:
    """Raise UserError if the case has a field that the API at this path does not have."""
    for name, remedy in _FOREIGN[path].items():
        if getattr(case, name, None) is not None or getattr(case.sampling, name, None) is not None:
            raise UserError(f"case {case.id}: {path} has no {name}; {remedy}")


def body_of(
    case: Case,
    path: str,
    model: str,
    deterministic: bool | None,
    stream: bool = False,
    details: str = DETAILS[0],
) -> dict[str, Any]:
    """The body of a case's request to this path.

    `deterministic` None leaves that field out, for servers that do not know it. `details` is one of
    DETAILS. Raises UserError if the path's API does not have all that the case asks for.
    """
    require_fields(case, path)
    if path == GENERATE:
        return _native_body(case, deterministic, stream)
    body: dict[str, Any] = {"model": model, "stream": stream, **case.sampling.given()}
    alternatives = body.pop("top_logprobs", 0)
    if case.messages is not None:
        body["messages"] = [message.model_dump(exclude_none=True) for message in case.messages]
    else:
        body["prompt"] = case.prompt if case.input_ids is None else case.input_ids
    fields = {"tools", "tool_choice", "response_format"}
    body |= case.model_dump(include=fields, exclude_none=True)
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
    prompt = {"text": case.prompt} if case.input_ids is None else {"input_ids": case.input_ids}
    return prompt | {
        "sampling_params": params,
        "return_logprob": True,
        "return_text_in_logprobs": True,
        "top_logprobs_num": alternatives,
        "stream": stream,
    }


def claiming(path: str, request: Mapping[str, Any], ids: Sequence[int]) -> dict[str, Any]:
    """The request with a claim: these token ids are its output. Who does not say so asks for
    determinism."""
    if path != GENERATE:
        return _claiming(request, ids) | {"stream": False}
    params = _claiming(request.get("sampling_params") or {}, ids)
    return {**request, "sampling_params": params, "stream": False}


def _claiming(params: Mapping[str, Any], ids: Sequence[int]) -> dict[str, Any]:
    custom = {**(params.get("custom_params") or {}), CLAIM: [*ids]}
    if deterministic_said(params) is None:
        custom["deterministic"] = True
    return {**params, "custom_params": custom}


def deterministic_said(params: Mapping[str, Any]) -> Any:
    """What sampling parameters say of determinism, wherever it stands; None for nothing."""
    said = params.get("deterministic")
    return (params.get("custom_params") or {}).get("deterministic") if said is None else said


def answer_of(path: str, events: Sequence[Any]) -> Answer:
    """Read an answer from the events of a stream, or from a response as the only event.

    Raises UserError if it is malformed, or the server broke it off.
    """
    for event in events:
        if isinstance(event, dict) and event.get("error"):
            raise UserError(f"the server broke an answer off: {json.dumps(event)[:300]}")
    try:
        return joined(_native_answers(events) if path == GENERATE else _openai_answers(events))
    except ValidationError as error:
        complaint = first_complaint(error)
    except UserError:
        raise
    except Exception as error:  # an endpoint may send anything
        complaint = f"{error!r}: {str(events)[:200]}"
    raise UserError(f"the answer of {path} is malformed: {complaint}")


def joined(choices: Sequence[Answer]) -> Answer:
    """One answer, of those of its choices."""
    first, *others = choices
    output = first.output.model_copy(update={"others": [c.output for c in others] or None})
    seconds = sum(choice.end_to_end_s for choice in choices)
    refuted = next((choice.refuted for choice in choices if choice.refuted), None)
    return replace(first, output=output, end_to_end_s=seconds, refuted=refuted)


def receipt_in(path: str, response: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The receipt of a response with one choice, None if it has none."""
    receipt = response["meta_info"].get("llm42") if path == GENERATE else response.get("llm42")
    return receipt if isinstance(receipt, Mapping) else None


def _native_answers(events: Sequence[Any]) -> list[Answer]:
    """Read SGLang's own events, or a response. To n > 1 that is a list."""
    whole = len(events) == 1 and isinstance(events[0], list)
    return [_native_answer(parts) for parts in _by_choice(events[0] if whole else events, whole)]


def _by_choice(parts: Iterable[Mapping[str, Any]], in_order: bool = False) -> list[list[Any]]:
    """The parts of each choice. In a stream each says by its index to which choice it belongs."""
    choices: dict[int, list[Any]] = {}
    for number, part in enumerate(parts):
        choices.setdefault(number if in_order else part.get("index", 0), []).append(part)
    return [choices[index] for index in sorted(choices)]


def _native_answer(events: Sequence[Mapping[str, Any]]) -> Answer:
    """Read the events of one choice. They are cumulative; a server flag makes them increments."""
    last = events[-1]
    meta = last["meta_info"]
    cumulative = len(last["output_ids"]) == meta.get("completion_tokens", len(last["output_ids"]))
    parts = [last] if cumulative else list(events)
    scored, *others = (
        [entry for part in parts for entry in part["meta_info"].get(name) or ()]
        for name in ("output_token_logprobs", *_ALTERNATIVES)
    )
    reason = meta.get("finish_reason") or {}
    if reason.get("type") == "abort" and not _is_refuted(meta.get("llm42")):
        raise UserError(f"the server aborted a request: {reason.get('message')}")
    texts = [entry[2] for entry in scored]
    return _answer(
        text="".join(part.get("text", "") for part in parts),
        finish_reason=reason.get("type"),
        ids=[token for part in parts for token in part["output_ids"]],
        tokens=texts if all(isinstance(text, str) for text in texts) else [],
        logprobs=[entry[0] for entry in scored],
        alternatives=[entry for entries in others for entry in entries],
        receipt=meta.get("llm42"),
        cached_tokens=meta.get("cached_tokens"),
    )


def _openai_answers(events: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """Read OpenAI's events, or a response."""
    parts = []
    for event in events:
        choices, receipts = event.get("choices") or (), event.get("llm42")
        if not isinstance(receipts, list):
            receipts = [receipts] * len(choices)
        for number, (choice, receipt) in enumerate(zip(choices, receipts, strict=True)):
            parts.append({"index": number, **choice, "llm42": receipt})
    if not parts:
        raise ValueError("no choices")
    return [_openai_answer(choice) for choice in _by_choice(parts)]


def _openai_answer(parts: Sequence[Mapping[str, Any]]) -> Answer:
    """Read the parts of one choice, each with the receipt that came along."""
    ids = [
        token
        for part in parts
        for token in part.get("token_ids") or part.get("response_token_ids") or ()
    ]
    tokens, logprobs, alternatives = _openai_logprobs(parts)
    text, calls = "".join(map(_text_of, parts)), _tool_calls(parts)
    return _answer(
        text=text.strip() if calls else text,  # before a call SGLang strips it, but not in a stream
        finish_reason=next((p["finish_reason"] for p in parts if p.get("finish_reason")), None),
        ids=ids or None,
        tokens=tokens,
        logprobs=logprobs,
        alternatives=alternatives,
        receipt=next((part["llm42"] for part in parts if part["llm42"]), None),
        tool_calls=calls or None,
    )


def _text_of(choice: Mapping[str, Any]) -> str:
    """The text of a choice. In a chat, reasoning belongs to it."""
    if "text" in choice:
        return choice["text"] or ""
    message = choice.get("message") or choice.get("delta") or {}
    return (message.get("reasoning_content") or "") + (message.get("content") or "")


def _tool_calls(parts: Iterable[Mapping[str, Any]]) -> list[ToolCall]:
    """The tool calls of a choice. In a stream arguments come in pieces, each with an index."""
    calls: dict[int, dict[str, str]] = {}
    for part in parts:
        delta = part.get("delta")
        message = delta or part.get("message") or {}
        for number, call in enumerate(message.get("tool_calls") or ()):
            known = calls.setdefault(call.get("index", number) if delta else number, {})
            function = call.get("function") or {}
            known["name"] = known.get("name") or function.get("name") or ""
            known["arguments"] = known.get("arguments", "") + (function.get("arguments") or "")
    return [ToolCall(**calls[index]) for index in sorted(calls)]


def _openai_logprobs(
    choices: Iterable[Mapping[str, Any]],
) -> tuple[list[str], list[float], list[Any]]:
    """Tokens, their logprobs, and the alternatives to each, of a completion or a chat."""
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
        alternatives += [entry for entry in logprobs.get("top_logprobs") or () if entry]
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
    tool_calls: list[ToolCall] | None = None,
) -> Answer:
    refuted = receipt[REFUTED] if _is_refuted(receipt) else None
    if refuted is not None:  # nothing is said of a whole answer
        stamp = {"verified": False, "fingerprint": receipt["fingerprint"], "output_digest": ""}
        receipt = {"version": 2, **stamp}
    output = Output(
        text=comparable(text),
        tool_calls=tool_calls,
        finish_reason=finish_reason,
        ids=ids,
        tokens=[comparable(token) for token in tokens] or None,
        logprobs=logprob_digest(logprobs, alternatives) if logprobs else None,
        receipt=receipt,
    )
    return Answer(output, tuple(logprobs) or None, receipt, cached_tokens, refuted=refuted)


def _is_refuted(receipt: Any) -> bool:
    return isinstance(receipt, Mapping) and REFUTED in receipt
