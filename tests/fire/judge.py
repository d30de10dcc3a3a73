"""What a history shows: PASSED, FAILED or UNKNOWN.

    python -m tests.fire.judge HISTORY...

It reads files and asks nobody. An answer is right if it is the one that the request got alone. An
answer that was cut off must be the beginning of it, and something in the trace must have cut it.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LONGEST_S = 110  # an answer that takes longer hangs
TWICE = "Duplicate request ID"  # what the server says to a name that is under way


@dataclass
class Judgement:
    """The verdict, what is wrong, and what was counted."""

    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    complete: bool = False  # the history has an end

    @property
    def verdict(self) -> str:
        """UNKNOWN if the history was cut off, or no deterministic answer is in it."""
        if self.wrong:
            return "FAILED"
        return "PASSED" if self.complete and self.counts["deterministic answers"] else "UNKNOWN"


def judge(lines: Iterable[Mapping[str, Any]]) -> Judgement:
    """Judge the lines of a history."""
    found = Judgement()
    right: dict[int, list[dict]] = {}
    lines = list(lines)
    aborted = _aborted(lines)
    for line in lines:
        if line["what"] == "alone":
            right[line["request"]] = line["answer"]
        elif line["what"] == "ask":
            found.counts["requests"] += 1
            found.wrong += _wrong(line, right, aborted, found.counts)
        elif line["what"] == "end":
            found.complete = True
            if (line["flush"], line["health"]) != (200, 200):
                found.wrong.append(f"afterwards: flush {line['flush']}, health {line['health']}")
        else:
            found.counts[line["what"]] += 1
    return found


def _aborted(lines: list[Mapping[str, Any]]) -> set[str]:
    """Who may have been aborted, by name; "" if everybody may."""
    events = [line["event"] for line in lines if "event" in line]
    paused = any(event["kind"] == "pause" and event["mode"] == "abort" for event in events)
    named = {event["rid"] for event in events if event["kind"] == "abort"}
    return named | ({""} if paused else set())


def _wrong(
    line: Mapping[str, Any], right: Mapping[int, list[dict]], aborted: set[str], counts: Counter
) -> Iterator[str]:
    """Yield what is wrong with one request's end."""
    event = line["event"]
    name = f"{event['rid']} (request {event['request']})"
    if line["seconds"] > LONGEST_S:
        yield f"{name}: {line['seconds']} s"
    if "broken" in line:
        yield f"{name}: the connection broke: {line['broken']}"
        return
    if TWICE in line["said"]:
        counts["names that came twice"] += 1
        return
    if line["status"] != 200:
        yield f"{name}: {line['status']} {line['said']}"
        return
    if not line.get("answer"):
        counts["ended with an error"] += 1
        if not line.get("left") and not {"", event["rid"]} & aborted:
            yield f"{name}: {line['said'] or 'no answer'}"
        return
    for got, expected in zip(line["answer"], right[event["request"]], strict=False):
        yield from _wrong_answer(name, line, got, expected, aborted, counts)


def _wrong_answer(
    name: str,
    line: Mapping[str, Any],
    got: dict,
    expected: dict,
    aborted: set[str],
    counts: Counter,
) -> Iterator[str]:
    event = line["event"]
    cut = (got["finish"] or {}).get("type") == "abort"
    if got["refuted"]:
        counts["claims refuted"] += 1
        last = len(expected["ids"]) - 1
        if event["claim"] != "wrong" or got["refuted"]["token"] != last:
            yield f"{name}: a {event['claim']} claim is refuted: {got['refuted']}"
        return
    whole = got["finish"] is not None and not cut
    if cut and not {"", event["rid"]} & aborted:
        yield f"{name}: aborted by nobody: {got['finish']}"
    if not whole and not cut and not line.get("left"):
        yield f"{name}: the stream has no end"
    counts["retractions"] += got["retractions"]
    if event["deterministic"]:
        yield from _not_alones(name, event, got, expected, counts)
    else:
        counts["ordinary answers"] += whole


def _not_alones(
    name: str, event: dict, got: dict, expected: dict, counts: Counter
) -> Iterator[str]:
    """Yield where a deterministic answer, or the beginning of one, is not what comes alone."""
    whole = got["finish"] is not None and got["finish"]["type"] != "abort"
    if got["segments"] > 1:  # other weights; each segment is checked elsewhere
        counts["answers of several segments"] += 1
        return
    if whole and got["fingerprint"] != expected["fingerprint"]:
        counts["answers of other weights"] += 1
        return
    for part in ("ids", "logprobs"):
        if got[part] != expected[part][: len(got[part])]:
            yield f"{name}: other {part} than alone"
    if not whole:
        counts["beginnings"] += 1
        return
    counts["deterministic answers"] += 1
    counts["claims confirmed"] += event["claim"] != ""
    counts["tokens"] += len(got["ids"])
    for counter in ("verify_passes", "canonical_steps", "rollbacks", "tokens_rolled_back"):
        counts[counter] += got[counter]
    if not got["verified"]:
        yield f"{name}: not verified"
    for part in ("ids", "text", "finish", "digest"):
        if got[part] != expected[part]:
            yield f"{name}: {part} {got[part]!r:.60}, and alone {expected[part]!r:.60}"


def read(path: Path) -> Iterator[dict]:
    """The lines of a file; one that was cut off ends it."""
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def main() -> None:
    """Judge each file. Status 0: all passed. 1: one failed. 2: nothing is known of one."""
    status = 0
    for path in map(Path, sys.argv[1:]):
        found = judge(read(path))
        print(f"{found.verdict}: {path.name}: {json.dumps(dict(found.counts))}")
        for line in found.wrong[:20]:
            print(f"  {line}")
        status = max(status, {"PASSED": 0, "UNKNOWN": 2, "FAILED": 1}[found.verdict])
    sys.exit(status)


if __name__ == "__main__":
    main()
