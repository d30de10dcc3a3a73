"""Where the word `deterministic` is read in a request, and where it stands in vain.

One rule for every path: as the name of an entry, anywhere in a body, in the query or in a header,
the word is read or refused, whatever its value, false and null too. Capitals make no difference.
What a user only hands through is no request of ours: a tool's schema, a schema of the output, the
arguments of a call.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl

from llm42_sglang.frontend.options import FIELD

Place = tuple[Any, ...]  # names from the outside in; ... for any element of a list

# "*" is any element of a list; "" is the body itself.
_NATIVE = (
    "sampling_params",
    "sampling_params.custom_params",
    "sampling_params.*",
    "sampling_params.*.custom_params",
)
_OPENAI = ("", "custom_params")
READ = {  # by path: the objects whose entry is read
    "/generate": _NATIVE,
    "/invocations": _OPENAI,
    "/v1/chat/completions": _OPENAI,
    "/v1/completions": _OPENAI,
    "/v1/responses": _OPENAI,
}
# The user's own data; nothing below is looked at. On any path:
_HANDED_THROUGH = (
    "tools.*.parameters",
    "tools.*.input_schema",
    "tools.*.function.parameters",
    "tools.*.function.returns",
    "tool_choice.function.parameters",
    "functions.*.parameters",
    "messages.*.tools",
    "messages.*.tool_calls.*.function.arguments",
    "messages.*.function_call.arguments",
    "messages.*.content.*.input",
    "messages.*.content.*.json",
    "input.*.arguments",
    "response_format.schema",
    "response_format.json_schema.schema",
    "response_format.structures.*.schema",
    "response_format.format",
    "text.format.schema",
)
# And where the name alone says little:
_HANDED_THROUGH_ON = {
    "/api/chat": ("format",),
    "/api/generate": ("format",),
    "/v1/decisions": ("schema",),
    "/v1/messages": ("output_format.schema", "output_config.format.schema"),
    "/v1/messages/count_tokens": ("output_config.format.schema",),
    "/v1/rerank": ("documents.*",),
    "/v1/responses": ("prompt.variables",),
    "/v1/systemone": ("schema",),
}
# Of a place, what is kept: more than any of these has, so that a deeper one is none of them.
_DEPTH = 8
_NAME = 60  # characters of a name that are told


def refusal(path: str, query: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> str:
    """One line about the first place where the word stands in vain; "" where there is none."""
    place = next(_strays(path, query, headers, body), None)
    if place is None:
        return ""
    if path not in READ:
        return f"{place}: {path} cannot serve it; use one of {', '.join(READ)}"
    return f"{place} is not read on {path}: {FIELD} belongs into {_home(path)}"


def _home(path: str) -> str:
    places = (place or "the body itself" for place in READ[path] if "*" not in place)
    return " or ".join(places)


def _strays(
    path: str, query: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> Iterator[str]:
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name.lower() == FIELD:
            yield f"{name} in the query"
    for header, _ in headers:
        name = header.decode("latin-1")
        if name.lower().removeprefix("x-") == FIELD:
            yield f"the header {name}"
    content = body.lower()
    if f'name="{FIELD}"'.encode() in content:  # of a form
        yield f"{FIELD} in a form"
    # A letter of the word may be written as an escape.
    if FIELD.encode() in content or b"\\u" in content:
        kept = (*_HANDED_THROUGH, *_HANDED_THROUGH_ON.get(path, ()))
        yield from _strays_in(_parsed(body), _places(READ.get(path, ())), _places(kept))


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None  # the handler will say so


def _strays_in(
    payload: Any, read: Collection[Place], handed_through: Collection[Place]
) -> Iterator[str]:
    """Dotted places of entries with the word as their name, but for those that are read."""
    waiting: list[tuple[Place, Any]] = [((), payload)]
    while waiting:
        place, value = waiting.pop()
        if place in handed_through:
            continue
        if isinstance(value, dict):
            for name in value:
                if name.lower() == FIELD and not (name == FIELD and place in read):
                    yield _told((*place, name))
        # A place is made of references: a list may hold millions of ids, a name megabytes.
        waiting += [
            ((*place, name)[:_DEPTH], part)
            for name, part in _parts(value)
            if isinstance(part, list | dict)
        ]


def _parts(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, dict):
        return value.items()
    return ((..., part) for part in value) if isinstance(value, list) else ()


def _places(dotted: Iterable[str]) -> frozenset[Place]:
    return frozenset(
        tuple(... if name == "*" else name for name in one.split(".") if name) for one in dotted
    )


def _told(place: Place) -> str:
    return ".".join("*" if name is ... else name[:_NAME] for name in place)
