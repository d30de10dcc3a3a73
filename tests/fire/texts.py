"""Is a text the beginning of the right one, or made of the beginnings of several right ones?

The bytes of a character may be shared by tokens. SGLang holds them back until all have come, and
where an answer ends before that, the replacement character is at its end.
"""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

PARTIAL = "\ufffd"

Answer = Mapping[str, Any]


def begins(got: Answer, right: Answer) -> bool:
    """Whether the text of `got` is the beginning of the right answer's text."""
    text, full = got["text"], _full(right)
    if len(got["ids"]) == len(right["ids"]) and (right["finish"] or {}).get("type") == "stop":
        # SGLang cuts off what is behind a stop only of an answer that it lets stop.
        full = max(full, text if text.startswith(right["text"]) else "", key=len)
    return full.startswith(text) or full.startswith(text.rstrip(PARTIAL))


def _full(right: Answer) -> str:
    """The text with the stop string, which SGLang cuts off at the end and not before."""
    matched = (right["finish"] or {}).get("matched")
    return right["text"] + (matched if isinstance(matched, str) else "")


def consists(text: str, rights: Sequence[Answer | None], whole: bool) -> bool:
    """Whether a text is made of the beginnings of these answers, one after the other.

    rights: None stands for one that nobody knows. whole: the last one is there to its end. A
    character whose bytes two of them share is in neither.
    """
    places = {0}  # where the next one may begin
    for number, right in enumerate(rights):
        shared = {place + 1 for place in places if number and not text[place : place + 1].isascii()}
        starts = places | shared
        if right is None:
            places = {*range(min(starts, default=len(text) + 1), len(text) + 1)}
            continue
        ends = whole and number == len(rights) - 1
        forms = {right["text"] if ends else _full(right)}
        if number:
            forms |= {form[1:] for form in forms if not form[:1].isascii()}
        places = {
            place
            for start in starts
            for form in forms
            for place in _ends(text, start, form, complete=ends)
        }
    return any(not text[place:].strip(PARTIAL) for place in places)


def _ends(text: str, start: int, form: str, complete: bool) -> Sequence[int]:
    """Where a part that starts here may end."""
    if complete:
        return [len(text)] if text[start:] == form else []
    same = takewhile(lambda pair: pair[0] == pair[1], zip(text[start:], form, strict=False))
    return range(start, start + sum(1 for _ in same) + 1)
