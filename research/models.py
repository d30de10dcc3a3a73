"""Certify tiny models of many architectures, and write the table of docs/models.md.

    PYTHONPATH=. scripts/run python research/models.py [ARCHITECTURE...] [--timeout 120]

Each goes through `llm42 certify`, one at a time. As in the tests, its processes are forked from one
that has imported SGLang. Results of architectures that are not named stay in the file, if they are
of this machine.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

from architectures import ARCHITECTURES, CAUSES, FLAGS, make

from llm42_sglang.cli import certify
from llm42_sglang.cli.hardware import hardware
from llm42_sglang.cli.signals import leave_on_signals
from llm42_sglang.core.config import Config
from llm42_sglang.files import write_whole
from scripts import results
from tests.engine.preloaded import Forked, preload

RESULT = results.RESULTS / "models.json"
# A small shape and few rows, so that every number of rows is examined in time.
CONFIG = Config(page=16, group=4)
POOL = ("--max-total-tokens", "4000", "--max-running-requests", "8")
TRIAL = "llm42_sglang.engine.trial:main"


def main() -> None:
    """Certify the architectures of the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="ARCHITECTURE", choices=[[], *ARCHITECTURES])
    parser.add_argument("--timeout", type=float, default=120, help="seconds for each")
    args = parser.parse_args()
    leave_on_signals()  # so that no trial outlives this process
    preload(os.environ)
    found = known()
    with tempfile.TemporaryDirectory() as folder:
        for name in args.names or ARCHITECTURES:
            found[name] = examined(name, Path(folder), args.timeout)
            print(name, *certify.cells(found[name]), sep=" | ", flush=True)
            keep(found)


def examined(name: str, folder: Path, timeout_s: float) -> certify.Found:
    """What `llm42 certify` finds, with the flags that it was given."""
    flags = FLAGS.get(name, ())
    model, log = make(name, folder), folder / f"{name}.log"
    found = certify.examined(str(model), CONFIG, [*POOL, *flags], log, _forked, timeout_s=timeout_s)
    cause = None if found["verdict"] == "holds" else CAUSES.get(name)
    return {**found, "cause": cause, "flags": " ".join(flags)}


def _forked(arguments, log: Path) -> Forked:
    return Forked(arguments, os.environ, log, TRIAL)


def known() -> dict[str, certify.Found]:
    """What has been found on this machine."""
    if not RESULT.exists():
        return {}
    before = json.loads(RESULT.read_text(encoding="utf-8"))
    return before["models"] if before["hardware"] == hardware() else {}


def keep(found: dict[str, certify.Found]) -> None:
    """Write the file, in the order of ARCHITECTURES, and the page."""
    models = {name: found[name] for name in ARCHITECTURES if name in found}
    command = "PYTHONPATH=. scripts/run python research/models.py"
    ours = ("--llm42-page", str(CONFIG.page), "--llm42-group", str(CONFIG.group))
    result = {"command": command, "hardware": hardware(), "flags": " ".join([*ours, *POOL])}
    write_whole(RESULT, json.dumps({**result, "models": models}, indent=1) + "\n")
    results.fill()


if __name__ == "__main__":
    main()
