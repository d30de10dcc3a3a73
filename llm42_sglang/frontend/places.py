"""Where the word `deterministic` is read in a request, and where it stands in vain.

One rule for every path: as the name of an entry, anywhere in a body, in the query or in a header,
the word is read or refused, whatever its value, false and null too. Capitals make no difference.
What a user only hands through is no request of ours: a tool's schema, a schema of the output, the
arguments of a call.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl

from llm42_sglang.frontend.options import FIELD

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
# The user's own data, on any path; nothing below is looked at.
_HANDED_THROUGH = frozenset(
    (
        "tools.*.parameters",
        "tools.*.input_schema",
        "tools.*.function.parameters",
        "functions.*.parameters",
        "messages.*.tools",
        "messages.*.tool_calls.*.function.arguments",
        "messages.*.content.*.input",
        "input.*.arguments",
        "response_format.json_schema.schema",
        "response_format.structures.*.schema",
        "response_format.format",
        "text.format.schema",
    )
)


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
        yield from _strays_in(_parsed(body), READ.get(path, ()))


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None  # the handler will say so


def _strays_in(payload: Any, read: Iterable[str]) -> Iterator[str]:
    """Dotted paths of entries with the word as their name, but for those that are read."""
    waiting = [("", payload)]
    while waiting:
        place, value = waiting.pop()
        if place in _HANDED_THROUGH:
            continue
        if isinstance(value, list):
            inner = _below(place, "*")  # a list may hold millions of ids
            waiting += [(inner, part) for part in value if isinstance(part, list | dict)]
        elif isinstance(value, dict):
            for name, part in value.items():
                if name.lower() == FIELD and not (name == FIELD and place in read):
                    yield _below(place, name)
                waiting.append((_below(place, name), part))


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
