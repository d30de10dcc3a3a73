"""What a history shows: PASSED, FAILED or UNKNOWN.

    python -m tests.fire.judge HISTORY...

It reads files and asks nobody. `tests.fire.answers` says when an answer is right.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fire.answers import Answers, wrong_alone
from tests.fire.excuses import ABORTED, TWICE, message_of, turned_away

LONGEST_S = 110  # an answer that takes longer hangs
ANSWERED = ("deterministic answers", "answers of several segments")


@dataclass
class Judgement:
    """The verdict, what is wrong, and what was counted."""

    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)  # of the deterministic answers
    in_flight: int = 0  # requests, at most
    complete: bool = False  # the history has an end

    @property
    def verdict(self) -> str:
        """UNKNOWN if the history was cut off, or has no deterministic answer to judge."""
        if self.wrong:
            return "FAILED"
        answered = any(self.counts[what] for what in ANSWERED)
        return "PASSED" if self.complete and answered else "UNKNOWN"


def judge(lines: Iterable[Mapping[str, Any]]) -> Judgement:
    """Judge the lines of a history."""
    lines = list(lines)
    found = Judgement()
    if any("event" in line and "begin" not in line for line in lines):
        return found  # it was written before histories had times
    answers = Answers(lines, found.counts, found.kinds)
    for line in lines:
        what = line["what"]
        if what == "alone":
            found.wrong += wrong_alone(line)
        elif what == "ask":
            found.counts["requests"] += 1
            found.wrong += _wrong(line, answers, found.counts)
        elif what == "end":
            found.complete = True
            found.in_flight = line["in_flight"]
            if (line["flush"], line["health"]) != (200, 200):
                found.wrong.append(f"afterwards: flush {line['flush']}, health {line['health']}")
        elif "event" in line:
            found.counts[what] += 1
            found.wrong += _wrong_trouble(line, answers)
    return found


def _wrong(line: Mapping[str, Any], answers: Answers, counts: Counter) -> Iterator[str]:
    """Yield what is wrong with one request's end."""
    event = line["event"]
    name = f"{event['rid']} (request {event['request']})"
    if (seconds := line["end"] - line["begin"]) > LONGEST_S:
        yield f"{name}: {seconds:.1f} s"
    if "broken" in line:
        yield f"{name}: the connection broke: {line['broken']}"
    elif TWICE in line["said"] and answers.excuses.twice(line):
        counts["names that came twice"] += 1
    elif turned_away(event, line["said"]):
        counts["turned away by a full queue"] += 1
    elif line.get("answer"):
        yield from answers.wrong(line, name)
    elif line.get("left") and not line["said"]:
        counts["left without an answer"] += 1
    elif answers.refused(event, line["said"]):
        counts["refused, as alone"] += 1
    elif line["status"] in (200, 400) and answers.excuses.aborted(line, line["said"]):
        counts["ended with an error"] += 1
    else:
        what = "aborted by nobody: " if message_of(line["said"]) in ABORTED else ""
        yield f"{name}: {what}{line['status']} {line['said'] or 'no answer'}"


def _wrong_trouble(line: Mapping[str, Any], answers: Answers) -> Iterator[str]:
    event, kind = line["event"], line["what"]
    seconds = line["end"] - line["begin"]
    if seconds > LONGEST_S or "broken" in line:
        yield f"{kind} {event['mode']}: {seconds:.1f} s, {line.get('broken', 'at last')}"
        return
    busy = kind == "flush" and line["status"] == 400 and answers.excuses.busy(line)
    if kind != "storm" and line["status"] != 200 and not busy:
        yield f"{kind} {event['mode']}: status {line['status']}"
    if kind == "update" and line["success"] == (event["weights"] == "none"):
        yield f"update to {event['weights']}: {line['said']}"


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
