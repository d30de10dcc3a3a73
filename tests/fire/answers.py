"""When is an answer right? Each set of weights has its own right answers: fingerprints tell them.

- A whole answer is the one that the request got alone, under the fingerprint of its receipt.
- One that was cut off is the beginning of it, and something has cut it at that time.
- One of several segments is judged segment by segment. The first is the beginning of what comes
  alone. Each later one is what its weights give alone, with all before it as prompt. Options that
  look at earlier output cannot be asked for in this way: such segments are counted.
- Its text is made of the segments' texts, and its end is the last one's.
- A claim is confirmed if it is the right answer, else refuted at the first token that differs.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from tests.fire.alone import COUNTERS
from tests.fire.excuses import Excuses, message_of, reason, turned_away
from tests.fire.requests import TOO_LONG, claimed
from tests.fire.texts import begins, consists

BITS = ("ids", "logprobs", "top")


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
        samples = {number: len(of[0].get("answer") or [0]) for number, of in self._right.items()}
        self.excuses = Excuses(lines, samples)

    def refused(self, event: Mapping[str, Any], said: str) -> bool:
        """Whether the request is told alone what it was told here, and gets no answer."""
        alone = self._right[event["request"]][0]
        told = alone["said"] or reason(alone.get("answer") or ())
        return bool(told) and message_of(told) == message_of(said)

    def wrong(self, line: Mapping[str, Any], name: str) -> Iterator[str]:
        """Yield what is wrong with the answers to a request, one for each sample."""
        event, left = line["event"], bool(line.get("left"))
        yield from self._wrong_samples(name, event, line["answer"], left)
        for got in line["answer"]:
            cut = _cut(got)
            whole = got["finish"] is not None and not cut
            said = reason([got]) if cut else ""
            if cut and self.refused(event, said):
                self._counts["refused, as alone"] += 1
                continue
            if cut and turned_away(event, said):
                self._counts["turned away by a full queue"] += 1
            elif cut and not self.excuses.aborted(line, said):
                yield f"{name}: aborted by nobody: {got['finish']}"
            if not whole and not cut and not left:
                yield f"{name}: the stream has no end"
            self._counts["retractions"] += got["retractions"]
            if got["sample"] >= self._samples(event):
                continue
            if not event["deterministic"]:
                self._counts["ordinary answers"] += whole
            elif got["refuted"]:
                yield from self._wrong_refutation(name, event, got)
            elif len(got["segments"]) > 1:
                yield from self._wrong_segments(name, event, got, whole)
            elif got["fingerprint"] is None and not whole:  # left: the receipt comes at the end
                yield from self._wrong_beginning(name, line, got)
            else:
                yield from self._not_alones(name, event, got, whole)

    def _samples(self, event: Mapping[str, Any]) -> int:
        """How many answers the request gets alone."""
        return len(self._right[event["request"]][0].get("answer") or ())

    def _wrong_samples(
        self, name: str, event: Mapping[str, Any], answers: Sequence[dict], left: bool
    ) -> Iterator[str]:
        """Who left a stream of several may know one of them only."""
        came, expected = {got["sample"] for got in answers}, {*range(self._samples(event))}
        if not expected:  # it is refused alone, and may be aborted before that
            came = {got["sample"] for got in answers if not _cut(got)}
        if came - expected or (expected - came and not left):
            yield f"{name}: samples {sorted(came)}, and alone {sorted(expected)}"

    def _under(self, event: Mapping[str, Any], sample: int, fingerprint: str) -> dict | None:
        """The right answer of weights, None if nobody knows them."""
        for alone in self._right[event["request"]]:
            if alone.get("answer") and alone["answer"][sample]["fingerprint"] == fingerprint:
                return alone["answer"][sample]
        return None

    def _not_alones(
        self, name: str, event: Mapping[str, Any], got: dict, whole: bool
    ) -> Iterator[str]:
        """Yield where an answer, or the beginning of one, is not what comes alone."""
        expected = self._under(event, got["sample"], got["fingerprint"])
        if expected is None:
            yield f"{name}: nobody knows the fingerprint {got['fingerprint']}"
            return
        for part in BITS:
            if got[part] != expected[part][: len(got[part])]:
                yield f"{name}: other {part} than alone"
        if not begins(got, expected):
            yield f"{name}: other text than alone: {got['text']!r:.60}"
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

    def _wrong_beginning(self, name: str, line: Mapping[str, Any], got: dict) -> Iterator[str]:
        known = [alone.get("answer") for alone in self._right[line["event"]["request"]]]
        rights = [answers[got["sample"]] for answers in known if answers]
        if any(
            all(got[part] == right[part][: len(got[part])] for part in BITS) and begins(got, right)
            for right in rights
        ):
            self._counts["beginnings"] += 1
        elif self.excuses.updated(line):
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
        if not begins(got, right):
            yield f"{name}: a refuted claim brings other text than alone"

    def _wrong_segments(
        self, name: str, event: Mapping[str, Any], got: dict, whole: bool
    ) -> Iterator[str]:
        self._counts["answers of several segments"] += 1
        if not got["verified"]:
            yield f"{name}: not verified"
        first, *later = got["segments"]
        rights: list[dict | str | None] = [self._under(event, got["sample"], first["fingerprint"])]
        key = event["rid"], got["sample"], *got["ids"]
        rights += self._segments.get(key, [None] * len(later))
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
        known = [right if isinstance(right, dict) else None for right in rights]
        if not consists(got["text"], known, whole):
            yield f"{name}: the text is not that of its segments: {got['text']!r:.60}"
        if whole and (last := known[-1]):
            mine, its = _end(got, len(got["ids"])), _end(last, len(last["ids"]))
            if mine != its or later[-1]["tokens"] != len(last["ids"]):
                ends = f"{got['finish']}, and its last segment alone {last['finish']}"
                yield f"{name}: the end {ends}"


def wrong_alone(line: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is no right answer. line: "alone". Some requests have none: they are too long."""
    name = f"request {line['request']} ({line['kind']})"
    for alone in line["answers"]:
        answers = alone.get("answer") or ()
        ended = [(one["finish"] or {}).get("type") in ("stop", "length") for one in answers]
        whole = alone["status"] == 200 and ended and all(ended)
        told = alone["said"] or reason(answers)
        if not whole and not (line["kind"] == TOO_LONG and told):
            yield f"{name}: alone {alone['status']} {told!r:.90}"
        if whole and any(one["ids"] and not one["verified"] for one in answers):
            yield f"{name}: not verified alone"


def _cut(got: Mapping[str, Any]) -> bool:
    return (got["finish"] or {}).get("type") == "abort" and not got["refuted"]


def _end(answer: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """Why an answer ended. A length counts from its beginning."""
    finish = dict(answer["finish"])
    if "length" in finish:
        finish["length"] -= tokens
    return finish


def _first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    pairs = enumerate(zip_longest(one, other))
    return next((place for place, (a, b) in pairs if a != b), None)
