"""When is an answer right? Each set of weights has its own right answers: fingerprints tell them.

- A whole answer is the one that the request got alone, under the fingerprint of its receipt.
- One that was cut off is the beginning of it, and something in the trace has cut it.
- One of several segments is judged segment by segment. The first is the beginning of what comes
  alone. Each later one is what its weights give alone, with all before it as prompt. Options that
  look at earlier output cannot be asked for in this way: such segments are counted.
- A claim is confirmed if it is the right answer, else refuted at the first token that differs.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from tests.fire.alone import COUNTERS
from tests.fire.requests import claimed

BITS = ("ids", "logprobs", "top")
# What is said where a queue has an end: to who comes, or to who gives way to a higher priority.
CROWDED = ("The request queue is full", "aborted by a higher priority request")


class Answers:
    """The right answers of a history. It counts what it judges."""

    def __init__(self, lines: Sequence[Mapping[str, Any]], counts: Counter, kinds: Counter):
        alone = [line for line in lines if line["what"] == "alone"]
        self._right = {line["request"]: line["answers"] for line in alone}
        self._kind = {line["request"]: line["kind"] for line in alone}
        self._segments = {
            (line["rid"], line["sample"], *line["ids"]): line["alone"]
            for line in lines
            if line["what"] == "segments"
        }
        self._counts, self._kinds = counts, kinds
        events = [line["event"] for line in lines if "event" in line]
        ending = [event for event in events if event["kind"] in ("pause", "update")]
        self._all_may_end = any(event["mode"] == "abort" for event in ending)
        self._named = {event["rid"] for event in events if event["kind"] == "abort"}
        self._updated = any(event["kind"] == "update" for event in events)

    def aborted(self, event: Mapping[str, Any]) -> bool:
        """Whether something may have ended this request."""
        return self._all_may_end or event["rid"] in self._named

    def refused(self, event: Mapping[str, Any], said: str) -> bool:
        """Whether the request is told alone what it was told here, and gets no answer."""
        alone = self._right[event["request"]][0]
        told = alone["said"] or _reason(*(alone.get("answer") or ()))
        return bool(told) and message_of(told) == message_of(said)

    def wrong(self, line: Mapping[str, Any], name: str) -> Iterator[str]:
        """Yield what is wrong with the answers to a request, one for each sample."""
        event, left = line["event"], bool(line.get("left"))
        for got in line["answer"]:  # who left a stream of several may know one of them only
            sample = got["sample"]
            cut = (got["finish"] or {}).get("type") == "abort" and not got["refuted"]
            whole = got["finish"] is not None and not cut
            if cut and self.refused(event, _reason(got)):
                self._counts["refused, as alone"] += 1
                continue
            if cut and turned_away(event, _reason(got)):
                self._counts["turned away by a full queue"] += 1
            elif cut and not self.aborted(event):
                yield f"{name}: aborted by nobody: {got['finish']}"
            if not whole and not cut and not left:
                yield f"{name}: the stream has no end"
            self._counts["retractions"] += got["retractions"]
            if not event["deterministic"]:
                self._counts["ordinary answers"] += whole
            elif got["refuted"]:
                yield from self._wrong_refutation(name, event, got)
            elif len(got["segments"]) > 1:
                yield from self._wrong_segments(name, event, sample, got)
            else:
                yield from self._not_alones(name, event, sample, got, whole)

    def _under(self, event: Mapping[str, Any], sample: int, fingerprint: str) -> dict | None:
        """The right answer of weights, None if nobody knows them."""
        for alone in self._right[event["request"]]:
            if alone.get("answer") and alone["answer"][sample]["fingerprint"] == fingerprint:
                return alone["answer"][sample]
        return None

    def _not_alones(
        self, name: str, event: Mapping[str, Any], sample: int, got: dict, whole: bool
    ) -> Iterator[str]:
        """Yield where an answer, or the beginning of one, is not what comes alone."""
        if got["fingerprint"] is None and not whole:  # left: the receipt comes at the end
            yield from self._wrong_beginning(name, event, sample, got)
            return
        expected = self._under(event, sample, got["fingerprint"])
        if expected is None:
            yield f"{name}: nobody knows the fingerprint {got['fingerprint']}"
            return
        for part in BITS:
            if got[part] != expected[part][: len(got[part])]:
                yield f"{name}: other {part} than alone"
        if got["ids"] and not got["verified"]:
            yield f"{name}: not verified"
        if not whole:
            self._counts["beginnings"] += 1
            return
        self._count(event, got)
        for part in (*BITS, "text", "finish", "digest"):
            if got[part] != expected[part]:
                yield f"{name}: {part} {got[part]!r:.60}, and alone {expected[part]!r:.60}"
        if event["claim"] and _first_difference(self._claim(event), expected["ids"]) is not None:
            yield f"{name}: a claim that is wrong is confirmed"

    def _wrong_beginning(
        self, name: str, event: Mapping[str, Any], sample: int, got: dict
    ) -> Iterator[str]:
        known = [alone.get("answer") for alone in self._right[event["request"]]]
        rights = [answers[sample] for answers in known if answers]
        if any(
            all(got[part] == right[part][: len(got[part])] for part in BITS) for right in rights
        ):
            self._counts["beginnings"] += 1
        elif self._updated:
            self._counts["beginnings that no receipt explains"] += 1
        else:
            yield f"{name}: not the beginning of what comes alone"

    def _count(self, event: Mapping[str, Any], got: dict) -> None:
        """Count a whole deterministic answer."""
        self._counts["deterministic answers"] += 1
        self._counts["claims confirmed"] += event["claim"] != "" and not event["stream"]
        self._counts["tokens"] += len(got["ids"])
        for counter in COUNTERS:
            self._counts[counter] += got[counter]
        self._kinds[self._kind[event["request"]]] += 1
        self._kinds["with logprobs"] += bool(got["logprobs"])
        for how in ("stream", "slow"):
            self._kinds[how] += bool(event[how])

    def _claim(self, event: Mapping[str, Any]) -> list[int]:
        """What was claimed: it is made of the plain weights' answer."""
        return claimed(self._right[event["request"]][0]["answer"][0]["ids"], event["claim"])

    def _wrong_refutation(self, name: str, event: Mapping[str, Any], got: dict) -> Iterator[str]:
        self._counts["claims refuted"] += 1
        right = self._under(event, 0, got["fingerprint"])
        if right is None or not event["claim"]:
            yield f"{name}: refuted under {got['fingerprint']}, claim {event['claim']!r}"
            return
        place = _first_difference(self._claim(event), right["ids"])
        if got["refuted"]["token"] != place:
            yield f"{name}: a claim is refuted at {got['refuted']}, and differs at {place}"
        if got["ids"] != right["ids"][: len(got["ids"])]:
            yield f"{name}: a refuted claim brings other ids than alone"

    def _wrong_segments(
        self, name: str, event: Mapping[str, Any], sample: int, got: dict
    ) -> Iterator[str]:
        self._counts["answers of several segments"] += 1
        if not got["verified"]:
            yield f"{name}: not verified"
        first, *later = got["segments"]
        rights: list[dict | str | None] = [self._under(event, sample, first["fingerprint"])]
        rights += self._segments.get((event["rid"], sample, *got["ids"]), [None] * len(later))
        start = 0
        for number, (segment, right) in enumerate(zip(got["segments"], rights, strict=True)):
            end = start + segment["tokens"]
            if isinstance(right, str):
                self._counts["segments that cannot be asked for alone"] += 1
            elif right is None or right["fingerprint"] != segment["fingerprint"]:
                yield f"{name}: nobody knows segment {number}"
            else:
                self._counts["segments, each as alone"] += 1
                for part in BITS:
                    mine = got[part][start:end]
                    if mine != right[part][: len(mine)]:
                        yield f"{name}: segment {number} has other {part} than alone"
            start = end
        if start != len(got["ids"]):
            yield f"{name}: segments of {start} tokens, and {len(got['ids'])} ids"


def _reason(*answers: Mapping[str, Any]) -> str:
    """Why an answer was aborted; "" if it was not, or nobody says why."""
    return next(((one["finish"] or {}).get("message") or "" for one in answers), "")


def message_of(said: str) -> str:
    """The message of an error: streams have it in another object than whole answers."""
    found = re.search(r'"message": ?"((?:[^"\\]|\\.)*)"', said)
    return found[1] if found else said


def turned_away(event: Mapping[str, Any], said: str) -> bool:
    """Whether a request with a priority had to give way. said: by the server."""
    return event["priority"] is not None and any(text in said for text in CROWDED)


def _first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    pairs = enumerate(zip_longest(one, other))
    return next((place for place, (a, b) in pairs if a != b), None)
