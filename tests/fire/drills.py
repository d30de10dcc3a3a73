"""Drills until the time is over: first those that have a name, then places drawn by a seed.

The places are where our code can fail in the scheduler while it serves: each function that a load
comes to, and each line that asks torch for something, which may find no memory. A symbol of SGLang
that is missing is a place too. The result has a row for each kind of fault, and all that was wrong.
"""

import argparse
import json
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import psutil

from llm42_sglang.cli.hardware import hardware
from llm42_sglang.cli.signals import leave_on_signals
from llm42_sglang.engine.faults import VARIABLE as FAULT
from llm42_sglang.files import write_whole
from tests.engine import preloaded
from tests.engine.servers import ENV, ForkedServer
from tests.fire.broken import VARIABLE
from tests.fire.drill import AUDITED, LONGEST_S, Drill, Outcome, Right, run, server_of

DRAFTS = ("--llm42-drafts", "ngram")
ALWAYS = ("--llm42-verify", "always")
REFUSED, ENDS, GONE, ON = ("refused",), ("ends",), ("gone",), ("on",)
# SGLang answers a request that it cannot finish, and may go on; ours may fail where it looks back.
FAILS = ("ends", "gone", "on")
SLOW_CLIENTS, SLOW_S = 20, 15
KINDS_OF_PLACES = {
    "call": "an exception in a function of ours",
    "torch": "no memory for a line of ours that asks torch",
}


def killed(index: int):
    """End one of SGLang's processes as `kill -9` does. They come in the order of their start:
    the schedulers by rank, and the detokenizer at last."""

    def during(server: ForkedServer) -> None:
        children = psutil.Process(server.pid).children(recursive=True)
        sorted(children, key=lambda process: process.pid)[index].send_signal(signal.SIGKILL)

    return during


def replica_killed(server: ForkedServer) -> None:
    """End the scheduler of replica 1, which the controller has started."""
    children = psutil.Process(server.pid).children(recursive=True)
    schedulers = [child for child in children if child.ppid() != server.pid]
    max(schedulers, key=lambda process: process.pid).send_signal(signal.SIGKILL)


def first_killed(server: ForkedServer) -> None:
    """End the process that the operator has started."""
    psutil.Process(server.pid).send_signal(signal.SIGKILL)


def slow_clients(server: ForkedServer) -> None:
    """Streams whose clients read nothing, and hang up at last."""
    how = {"temperature": 0, "max_new_tokens": 400, "ignore_eos": True}
    how["custom_params"] = {"deterministic": True}
    body = {"input_ids": [5, 6, 7], "sampling_params": how, "stream": True, "return_logprob": True}
    with httpx.Client(base_url=server.url, timeout=LONGEST_S, trust_env=False) as http:
        sent = [http.build_request("POST", "/generate", json=body) for _ in range(SLOW_CLIENTS)]
        responses = [http.send(request, stream=True) for request in sent]
        time.sleep(SLOW_S)
        for response in responses:
            response.close()


def named() -> Iterator[Drill]:
    """Those that have a name."""
    for fault in ("a1", "a1-kv", "a2", "a3"):
        yield Drill(
            f"assumption {fault} is false", REFUSED, env={FAULT: fault}, says="assumption A"
        )
    one = "an assumption is false on one rank"
    yield Drill(one, REFUSED, "rank 1", says="assumption A1")
    for plugins in ("none", "llm42_cpu"):
        env = {"SGLANG_PLUGINS": plugins}
        yield Drill("SGLANG_PLUGINS leaves the plugin out", REFUSED, env=env, says="SGLANG_PLUGINS")
    yield Drill("passes of some widths give other bits", ON, env={FAULT: "width"})
    yield Drill("steps of some sizes give other bits", ON, env={FAULT: "step"})
    later = {FAULT: "step-later"}
    what = "steps give other bits once the server serves"
    yield Drill(what, GONE, flags=AUDITED, env=later, silent=True)
    yield Drill(f"{what}, and every token is verified", ON, flags=(*AUDITED, *ALWAYS), env=later)
    for flags in ((), ALWAYS):
        what = "passes give other bits once the server serves"
        yield Drill(
            what, GONE, flags=(*AUDITED, *flags), env={FAULT: "kv-later"}, rounds=4, silent=True
        )
    yield Drill("a rank draws other tokens", ENDS, "a rank strays", ALWAYS, rounds=3)
    yield Drill("kill -9: the scheduler", ENDS, during=killed(0))
    yield Drill("kill -9: the detokenizer", ENDS, during=killed(-1))
    yield Drill("kill -9: the first process", ENDS, during=first_killed)
    yield Drill("kill -9: rank 1", ENDS, "a rank strays", env={FAULT: ""}, during=killed(1))
    yield Drill("kill -9: replica 1", ENDS, "two replicas", during=replica_killed)
    yield Drill("clients that do not read", ON, during=slow_clients)


def listed(rights: "Rights", folder: Path) -> list[Drill]:
    """A drill for every place that a load comes to, at its third time, or else at its first."""
    drills: dict[str, Drill] = {}
    for flags in ((*AUDITED, *DRAFTS), (*AUDITED, *DRAFTS, *ALWAYS)):
        file = folder / "places"
        drill = Drill("none", ON, flags=flags, env={VARIABLE: f"list {file}"})
        outcome = run(drill, rights["tiny"], folder)
        assert not outcome.wrong, outcome.wrong
        for line in sorted(file.read_text().splitlines()):
            kind, place, _ = line.split(" ")
            env = {VARIABLE: f"{line}"}
            drills[f"{kind} {place}"] = Drill(KINDS_OF_PLACES[kind], FAILS, flags=flags, env=env)
        file.unlink()
    return list(drills.values())


def symbols() -> list[Drill]:
    """A drill for every symbol of SGLang that is relied upon."""
    from llm42_sglang.engine.plugin import SEAMS

    what = "a symbol of SGLang is missing"
    return [
        Drill(what, REFUSED, env={VARIABLE: f"gone {seam.path}"}, says=seam.path.split(".")[-1])
        for seam in SEAMS
    ]


class Rights(dict[str, Right]):
    """The right answers of a server of the list, by name. A sound one is asked when needed."""

    def __init__(self, folder: Path):
        super().__init__()
        self._folder = folder

    def __missing__(self, name: str) -> Right:
        with server_of(Drill("none", ON, name, env={FAULT: ""}), self._folder) as server:
            self[name] = Right.of(server.url)
        return self[name]


def drill(drills: Iterable[Drill], rights: Rights, folder: Path) -> Iterator[tuple[Drill, Outcome]]:
    """Run them one by one. The log of one in which something was wrong is kept."""
    for number, one in enumerate(drills):
        right = Right([], []) if one.ends == REFUSED else rights[one.server]
        outcome = run(one, right, folder)
        print(f"{one.what} {one.place or dict(one.env)}: {outcome}", flush=True)
        if outcome.wrong:
            shutil.copy(folder / "server.log", folder / f"wrong-{number}.log")
        yield one, outcome


def totals(outcomes: Iterable[tuple[Drill, Outcome]]) -> Iterator[dict[str, Any]]:
    """A row for each kind of fault that has happened."""
    rows: dict[str, tuple[Counter, Counter]] = {}
    for one, outcome in outcomes:
        if outcome.reached:
            ends, counts = rows.setdefault(one.what, (Counter(), Counter()))
            ends[outcome.end] += 1
            counts += outcome.counts
    for what, (ends, counts) in rows.items():
        yield {"what": what, "times": ends.total(), "ends": dict(ends), "requests": dict(counts)}


def main() -> None:
    """Run for some minutes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1, help="for the order of the places")
    parser.add_argument("--named", action="store_true", help="without the places")
    parser.add_argument("--only", default="", help="those with this in their name or place")
    parser.add_argument("--out", type=Path, help="write the rows here, as JSON")
    options = parser.parse_args()
    leave_on_signals()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="llm42-drills-"))
    preloaded.preload(os.environ | ENV)
    rights = Rights(folder)
    places = [] if options.named else [*listed(rights, folder), *symbols()]
    random.Random(options.seed).shuffle(places)
    drills = [one for one in chain(named(), places) if options.only in f"{one.what} {one.place}"]
    seen: list[tuple[Drill, Outcome]] = []
    for done in drill(drills, rights, folder):
        seen.append(done)
        minutes = (time.monotonic() - began) / 60
        result = result_of(seen, minutes, len(places))
        if options.out:
            write_whole(options.out, json.dumps(result, indent=1) + "\n")
        if minutes > options.minutes:
            break
    print(json.dumps(result))
    sys.exit(1 if result["wrong"] else 0)


def result_of(seen: Sequence[tuple[Drill, Outcome]], minutes: float, places: int) -> dict[str, Any]:
    """What has been seen until now. places: how many there are to draw from."""
    return {
        "command": shlex.join(["scripts/drill", *sys.argv[1:]]),
        "hardware": hardware(),
        "minutes": round(minutes, 1),
        "places": places,
        "not reached": sum(not outcome.reached for _, outcome in seen),
        "rows": list(totals(seen)),
        "wrong": [f"{one.what} {one.place}: {why}" for one, out in seen for why in out.wrong],
    }


if __name__ == "__main__":
    main()
