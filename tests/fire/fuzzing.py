"""Attacks of many seeds on one server, until the time is over. `scripts/fuzz` runs it.

Then damaged files, as many as there were rounds. The first round that finds something ends it, with
the attack made small; the status is then not 0. The result, as JSON, has totals by attack and by
endpoint.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from llm42_sglang.cli.hardware import hardware
from llm42_sglang.cli.launch import ServerProcess
from llm42_sglang.cli.signals import leave_on_signals
from llm42_sglang.files import write_whole
from tests.engine import client, tiny_models
from tests.engine.servers import CONFIGURATIONS, ENV
from tests.fire.damage import Damager, Server, run
from tests.fire.fuzz import Fuzzer
from tests.repro.conftest import SUITE

ROUND = 300  # attacks, or damaged files


def attempt(number: int, work: Callable[[], Any]) -> list[str]:
    """What is wrong, if anything is."""
    try:
        work()
    except Exception as error:
        told = f"seed {number}: {type(error).__name__}: {error}"
        print(told[:6000], flush=True)
        return [told]
    return []


def fuzz(name: str, first: int, deadline: float, folder: Path) -> tuple[dict, list[str], int]:
    """Attack one server until the deadline. Returns totals, what was wrong, and the next seed."""
    configuration = CONFIGURATIONS[name]
    args = [*configuration.flags, "--model-path", str(tiny_models.make("qwen3", folder))]
    log = folder / f"{name}.log"
    with ServerProcess(args, log_path=log, env=ENV | configuration.env) as server:
        root = psutil.Process(server.pid)
        fuzzer = Fuzzer(server.url, [root, *root.children(recursive=True)])
        number, wrong = first, []
        while time.monotonic() < deadline and not wrong:
            with client.ordinary_traffic(server.url, 1):
                wrong = attempt(number, lambda: fuzzer.fire(ROUND, number))  # noqa: B023
            wrong = wrong or attempt(number, fuzzer.look_after)
            print(f"seed {number}: {dict(fuzzer.counts)}", flush=True)
            number += 1
        return fuzzer.totals(), wrong, number


def damage(numbers: range, folder: Path) -> tuple[dict, list[str]]:
    """Damage files with these seeds. Returns totals, and what was wrong."""
    suite, golden, receipts, work = (folder / name for name in ("s.yaml", "g.json", "r", "work"))
    suite.write_text(SUITE)
    work.mkdir()
    with Server() as server:
        files = ("--out", str(golden), "--receipts", str(receipts))
        assert run("record", str(suite), "--url", server.url, *files).status == 0
        originals = {"suite": [suite], "golden": [golden], "receipt": sorted(receipts.iterdir())}
        damager = Damager(server.url, originals, work)
        for number in numbers:
            if wrong := attempt(number, lambda: damager.fire(ROUND, number)):  # noqa: B023
                return damager.by_attack, wrong
    return damager.by_attack, []


def main() -> None:
    """Run for some minutes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="of attacks on the server")
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--server", default="tiny", help="one of tests/engine/servers.py")
    parser.add_argument("--out", type=Path, help="write the totals here, as JSON")
    options = parser.parse_args()
    leave_on_signals()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="llm42-fuzz-") as folder:
        deadline = began + options.minutes * 60
        totals, wrong, following = fuzz(options.server, options.seed, deadline, Path(folder))
        damaged, wrong_files = damage(range(options.seed, following), Path(folder))
    minutes = round((time.monotonic() - began) / 60, 1)
    command = shlex.join(["scripts/fuzz", *sys.argv[1:]])
    result = {"command": command, "hardware": hardware(), "minutes": minutes}
    result |= {**totals, "files": damaged, "wrong": wrong + wrong_files}
    if options.out:
        write_whole(options.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
    sys.exit(1 if result["wrong"] else 0)


if __name__ == "__main__":
    main()
