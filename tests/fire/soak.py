"""Traces of many seeds on one server, until the time is over. `scripts/soak` runs it.

The first history that does not pass is kept, with its trace; the status is then not 0. The result,
as JSON, has the totals.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from llm42_sglang.cli.hardware import hardware
from llm42_sglang.cli.launch import ServerProcess
from llm42_sglang.files import write_whole
from tests.engine import tiny_models
from tests.engine.servers import CONFIGURATIONS, ENV
from tests.fire import play
from tests.fire.judge import judge, read
from tests.fire.trace import Mixture, make

MIXTURE = Mixture(seconds=120, per_second=8, requests=100)


def soak(name: str, seeds: range, deadline: float, folder: Path) -> tuple[Counter, list[str]]:
    """Play seeds on one server until the deadline. Returns counts, and what was wrong."""
    configuration = CONFIGURATIONS[name]
    model = tiny_models.make(configuration.model, folder)
    args = [*configuration.flags, "--model-path", str(model)]
    counts: Counter[str] = Counter()
    with ServerProcess(
        args, log_path=folder / f"{name}.log", env=ENV | configuration.env
    ) as server:
        for seed in seeds:
            trace, history = make(seed, MIXTURE), folder / f"{name}-{seed}.jsonl"
            trace.save(history.with_suffix(".json"))
            play.record(server.url, trace, history)
            found = judge(read(history))
            counts += found.counts
            counts["traces"] += 1
            print(f"{name}, seed {seed}: {found.verdict} {dict(found.counts)}", flush=True)
            if found.verdict != "PASSED":
                return counts, [f"{history}: {found.verdict}", *found.wrong]
            if time.monotonic() > deadline:
                break
    return counts, []


def main() -> None:
    """Run for some minutes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1, help="of the first trace")
    parser.add_argument("--servers", nargs="+", default=["tiny"])
    parser.add_argument("--out", type=Path, help="write the totals here, as JSON")
    options = parser.parse_args()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="llm42-soak-"))
    totals, wrong = {}, []
    for turn, name in enumerate(options.servers, start=1):
        share = options.minutes * 60 * turn / len(options.servers)
        first = options.seed + 1000 * turn
        counts, wrong = soak(name, range(first, first + 1000), began + share, folder)
        totals[name] = dict(counts)
        if wrong:
            break
    minutes = round((time.monotonic() - began) / 60, 1)
    command = shlex.join(["scripts/soak", *sys.argv[1:]])
    result = {"command": command, "hardware": hardware(), "minutes": minutes}
    result |= {"servers": totals, "wrong": wrong}
    if options.out:
        write_whole(options.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
