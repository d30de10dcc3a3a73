"""Where `deterministic` may stand in a request. In any other place it is refused.

The rule is the same on every path. An entry with that name, in the body, the query or a header, is
either read or refused. Its value does not matter, and neither do capitals. A misspelt name is
refused too, because SGLang would drop it without a word. The user's own data are exempt, because
nobody means them as options: schemas of tools or of the output, and the arguments of calls.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from typing import Any
from urllib.parse import parse_qsl

from llm42_sglang.core.receipts import VERIFY_PATH
from llm42_sglang.frontend.options import FIELD, Refused

Place = tuple[Any, ...]  # names from the outside in; ... for any element of a list

# The dotted places below: "*" is any element of a list, and "" is the body itself.
_NATIVE = (
    "sampling_params",
    "sampling_params.custom_params",
    "sampling_params.*",
    "sampling_params.*.custom_params",
)
_OPENAI = ("", "custom_params")
READ = {  # by path: the objects in which the entry is read
    "/generate": _NATIVE,
    "/invocations": _OPENAI,
    "/v1/chat/completions": _OPENAI,
    "/v1/completions": _OPENAI,
    "/v1/responses": _OPENAI,
}
# The user's own data on any path. Nothing inside is looked at.
_USER_DATA = (
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
# The user's own data on some paths. Their names mean something else on other paths.
_USER_DATA_ON = {
    VERIFY_PATH: ("request", "response", "fingerprint"),
    "/api/chat": ("format",),
    "/api/generate": ("format",),
    "/v1/decisions": ("schema",),
    "/v1/messages": ("output_format.schema", "output_config.format.schema"),
    "/v1/messages/count_tokens": ("output_config.format.schema",),
    "/v1/rerank": ("documents.*",),
    "/v1/responses": ("prompt.variables",),
    "/v1/systemone": ("schema",),
}
_DEPTH = 8  # names of a place that are kept: more than any place above has
_NAME = 60  # characters of a name that are looked at, and that a message shows
_STEM = FIELD[:8]  # how a misspelt name begins
ALIKE = 0.8  # of difflib: "determinstic" and "determinism" are, "determined" is not


def refusal(path: str, query: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> str:
    """Return why a request is refused: one line about the first wrong place, "" if there is none.

    path: the endpoint. query, headers and body: as ASGI gives them.
    """
    place = next(_misplaced(path, query, headers, body), None)
    if place is None:
        return ""
    if path not in READ:
        return f"{place}: {path} has no deterministic service; use one of {', '.join(READ)}"
    return f"{place} is not read on {path}; put {FIELD} into {_right_places(path)}"


def refuse_misplaced(sampling_params: Any) -> None:
    """Raise Refused as `refusal` does, for the sampling parameters of a call in this program."""
    place = next(_misplaced_in({"sampling_params": sampling_params}, _places(_NATIVE), ()), None)
    if place is not None:
        raise Refused(f"{place} is not read; put {FIELD} into {_right_places('/generate')}")


def _right_places(path: str) -> str:
    places = (place or "the body itself" for place in READ[path] if "*" not in place)
    return " or ".join(places)


def _misplaced(
    path: str, query: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> Iterator[str]:
    """Yield the places where the entry stands and is not read."""
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if _is_meant(name):
            yield f"{name} in the query"
    for header, _ in headers:
        name = header.decode("latin-1")
        if _is_meant(name.lower().removeprefix("x-")):
            yield f"the header {name}"
    content = body.lower()
    if f'name="{FIELD}"'.encode() in content:  # of a form
        yield f"{FIELD} in a form"
    # A letter of the name may be written as an escape.
    if _STEM.encode() in content or b"\\u" in content:
        user_data = (*_USER_DATA, *_USER_DATA_ON.get(path, ()))
        yield from _misplaced_in(_parsed(body), _places(READ.get(path, ())), _places(user_data))


def _is_meant(name: str) -> bool:
    """Return whether a name is FIELD, in capitals or misspelt."""
    name = name[:_NAME].lower()
    return name.startswith(_STEM) and bool(get_close_matches(name, [FIELD], cutoff=ALIKE))


def _parsed(body: bytes) -> Any:
    """Return the value of a JSON body; None if it is malformed, for which the handler answers."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _misplaced_in(
    payload: Any, read: Collection[Place], user_data: Collection[Place]
) -> Iterator[str]:
    """Yield the dotted places in a JSON value where the entry stands and is not read."""
    stack: list[tuple[Place, Any]] = [((), payload)]
    while stack:
        place, value = stack.pop()
        if place in user_data:
            continue
        if isinstance(value, dict):
            for name in value:
                if (
                    isinstance(name, str)
                    and _is_meant(name)
                    and not (name == FIELD and place in read)
                ):
                    yield _dotted((*place, name))
        # A place holds references to names: a name may have megabytes, a list millions of ids.
        stack += [
            ((*place, name)[:_DEPTH], part)
            for name, part in _parts(value)
            if isinstance(part, list | dict)
        ]


def _parts(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return name and value of each entry; the name of a list's element is `...`."""
    if isinstance(value, dict):
        return value.items()
    return ((..., part) for part in value) if isinstance(value, list) else ()


def _places(dotted: Iterable[str]) -> frozenset[Place]:
    return frozenset(
        tuple(... if name == "*" else name for name in text.split(".") if name) for text in dotted
    )


def _dotted(place: Place) -> str:
    return ".".join("*" if name is ... else name[:_NAME] for name in place)
