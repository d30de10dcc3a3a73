"""Why may a request end early, or not begin? Something that happened at the same time says so.

Times are those of the client: a thing's begin is before the server hears of it, and its end is
after the server has done it. So what the server did to two things at once overlaps here too.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TWICE = "Duplicate request ID"  # what the server says to a name that is under way
# What is said where a queue has an end: to who comes, or to who gives way to a higher priority.
CROWDED = ("The request queue is full", "aborted by a higher priority request")
# What SGLang says to who is aborted: under way, in the queue, or while a grammar is compiled.
ABORTED = ("Aborted", "Abort in waiting queue", "Aborted by AbortReq.")
LINGER_S = 20  # after a client has hung up, SGLang may need so long to notice

Line = Mapping[str, Any]


class Excuses:
    """What happened when, in a history."""

    def __init__(self, lines: Sequence[Line], samples: Mapping[int, int]):
        """samples: how many each request has; a name is sent where it is one."""
        self._single = {request for request, number in samples.items() if number == 1}
        timed = [line for line in lines if "event" in line]
        self._asks = [line for line in timed if line["what"] == "ask"]
        self._named = [line for line in timed if line["what"] == "abort"]
        ending = [line for line in timed if line["what"] in ("pause", "update")]
        self._of_all = [line for line in ending if line["event"]["mode"] == "abort"]
        self._updates = [line for line in ending if line["what"] == "update"]

    def aborted(self, ask: Line, said: str) -> bool:
        """Whether something may have ended this request, and this is what is said then."""
        if message_of(said) not in ABORTED:
            return False
        named = [line for line in self._named if self._same_name(line, ask)]
        return any(_overlap(ask, line) for line in (*self._of_all, *named))

    def twice(self, ask: Line) -> bool:
        """Whether another request of this name was under way."""
        others = (line for line in self._asks if line is not ask and self._same_name(line, ask))
        return any(
            _overlap(ask, other, _linger(other)) and TWICE not in other.get("said", "")
            for other in others
        )

    def busy(self, flush: Line) -> bool:
        """Whether some request kept the server from flushing its cache."""
        return any(_overlap(flush, ask, LINGER_S) for ask in self._asks)

    def updated(self, ask: Line) -> bool:
        """Whether weights were updated meanwhile."""
        return any(_overlap(ask, line) for line in self._updates)

    def _same_name(self, one: Line, ask: Line) -> bool:
        events = [line["event"] for line in (one, ask)]
        asked = [event for event in events if event["kind"] == "ask"]
        same = events[0]["rid"] == events[1]["rid"]
        return same and all(event["request"] in self._single for event in asked)


def _overlap(one: Line, other: Line, linger: float = 0.0) -> bool:
    """linger: seconds for which the other one goes on after its end."""
    return one["begin"] <= other["end"] + linger and other["begin"] <= one["end"]


def _linger(ask: Line) -> float:
    return LINGER_S if ask.get("left") or "broken" in ask else 0.0


def reason(answers: Iterable[Mapping[str, Any]]) -> str:
    """Why an answer was aborted; "" if it was not, or nobody says why."""
    return next(((one["finish"] or {}).get("message") or "" for one in answers), "")


def message_of(said: str) -> str:
    """The message of an error: streams have it in another object than whole answers."""
    found = re.search(r'"message": ?"((?:[^"\\]|\\.)*)"', said)
    return found[1] if found else said


def turned_away(event: Mapping[str, Any], said: str) -> bool:
    """Whether a request with a priority had to give way. said: by the server."""
    return event["priority"] is not None and any(text in said for text in CROWDED)
