"""Traces of many seeds on several servers, until the time is over. `scripts/soak` runs it.

Traces that once failed on a server come first.

A trace that fails is played again with fewer events, and the smallest one that fails is kept. A
trace of which nothing is known does not pass either. Then the next server has its turn. The
result, as JSON, has the totals and what was wrong. It is written after each trace. The status is 0
if all traces passed, and not if it was interrupted.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from llm42_sglang.cli.hardware import hardware
from llm42_sglang.cli.signals import leave_on_signals
from llm42_sglang.files import write_whole
from tests.engine.preloaded import preload
from tests.engine.servers import ENV
from tests.fire.judge import Judgement
from tests.fire.seeded import make
from tests.fire.servers import PLACES, Playground
from tests.fire.shrink import shrink
from tests.fire.trace import Trace, kept

SHRINK_S, TRIES = 480, 60  # for one trace
AT_ONCE = "requests in flight at a time"


class Soak:
    """Plays traces, and keeps what was counted."""

    def __init__(self, folder: Path, out: Path | None):
        """out: where the result is written, as JSON."""
        self.folder = folder
        self.out = out
        self.began = time.monotonic()
        self.totals: dict[str, Counter[str]] = {}
        self.kinds: dict[str, Counter[str]] = {}
        self.wrong: list[str] = []
        self.interrupted = True  # until it has come to its end

    def play(self, name: str, traces: Iterable[Trace], deadline: float = float("inf")) -> None:
        """Play traces on one server until the deadline, or until one does not pass."""
        try:
            with Playground(name, self.folder) as ground:
                for trace in traces:
                    verdict = self._play(ground, trace)
                    if verdict == "FAILED":
                        self._shrink(ground, trace)
                    if verdict != "PASSED":
                        break
                    if time.monotonic() > deadline:
                        break
        except Exception as error:  # a server that does not start, or does not end
            self.wrong.append(f"{name}: {type(error).__name__}: {error}")

    def _play(self, ground: Playground, trace: Trace) -> str:
        """The verdict."""
        path = self.folder / f"{trace.server}-{trace.seed}.jsonl".replace(" ", "-")
        trace.save(path.with_suffix(".json"))
        began = time.monotonic()
        found = ground.play(trace, path)
        self._count(trace.server, found)
        took = f"{len(trace.events)} events, {time.monotonic() - began:.0f} s"
        print(f"{path.stem}: {found.verdict}, {took}, {json.dumps(found.counts)}", flush=True)
        if found.verdict != "PASSED":
            self.wrong += [f"{path}: {found.verdict}", *found.wrong[:20]]
            print("", *found.wrong[:20], sep="\n  ", flush=True)
        self.save()
        return found.verdict

    def _count(self, name: str, found: Judgement) -> None:
        totals = self.totals.setdefault(name, Counter())
        totals.update(found.counts)
        totals["traces"] += 1
        totals[AT_ONCE] = max(totals[AT_ONCE], found.in_flight)
        self.kinds.setdefault(name, Counter()).update(found.kinds)

    def _shrink(self, ground: Playground, trace: Trace) -> None:
        """Keep the smallest part of the trace that was seen to fail."""
        kept = self.folder / f"{trace.server}-{trace.seed}-small.json".replace(" ", "-")

        def fails(events) -> bool:
            found = ground.play(trace.of(events), kept.with_suffix(".jsonl"))
            print(f"  {len(events)} events: {found.verdict}", flush=True)
            return found.verdict == "FAILED"

        events = shrink(trace.events, fails, TRIES, time.monotonic() + SHRINK_S)
        trace.of(events).save(kept)
        self.wrong.append(f"of {len(trace.events)} events {len(events)} are left: {kept}")
        self.save()

    def save(self) -> None:
        """Write the result, if it is wanted."""
        if self.out:
            write_whole(self.out, json.dumps(self.result(), indent=1) + "\n")

    def result(self) -> dict[str, Any]:
        """What was played, and what came of it."""
        return {
            "command": shlex.join(["scripts/soak", *sys.argv[1:]]),
            "hardware": hardware(),
            "minutes": round((time.monotonic() - self.began) / 60, 1),
            "servers": self.totals,
            "kinds": self.kinds,
            "wrong": self.wrong,
            "interrupted": self.interrupted,
        }


def run(soak: Soak, options: argparse.Namespace) -> None:
    """Give each server its share of the time, or play the traces of files."""
    if options.trace:
        for path in options.trace:
            trace = Trace.load(path)
            soak.play(trace.server, [trace])
        return
    for turn, name in enumerate(options.servers, start=1):
        share = options.minutes * 60 * turn / len(options.servers)
        first = options.seed + 1000 * turn
        mixture = PLACES[name].mixture
        if options.seconds:
            mixture = replace(mixture, seconds=options.seconds)
        seeded = (make(name, seed, mixture) for seed in range(first, first + 1000))
        failed = [replace(trace, seed=-i) for i, (_, trace) in enumerate(kept(), start=1)]
        traces = chain((trace for trace in failed if trace.server == name), seeded)
        soak.play(name, traces, soak.began + share)


def finish(soak: Soak, options: argparse.Namespace) -> None:
    """Run, and write the result, whatever ends it."""
    try:
        run(soak, options)
        soak.interrupted = False
    finally:
        soak.save()
        print(json.dumps(soak.result()))


def main() -> None:
    """Run for some minutes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1, help="of the first trace")
    parser.add_argument("--servers", nargs="+", default=[*PLACES], choices=PLACES)
    parser.add_argument("--seconds", type=float, help="of a trace, if nobody had to wait")
    parser.add_argument("--trace", nargs="+", type=Path, help="play these files, and no seeds")
    parser.add_argument("--out", type=Path, help="write the totals here, as JSON")
    options = parser.parse_args()
    leave_on_signals()
    preload(ENV)
    soak = Soak(Path(tempfile.mkdtemp(prefix="llm42-soak-")), options.out)
    finish(soak, options)
    sys.exit(1 if soak.wrong else 0)


if __name__ == "__main__":
    main()
