"""`llm42 certify`: does a model hold on this machine? Without a server."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from llm42_sglang.cli.bench import report
from llm42_sglang.cli.cache import cache_dir
from llm42_sglang.cli.launch import ESCAPES
from llm42_sglang.cli.model import ensure_default_model
from llm42_sglang.cli.output import Out, require_writable, say
from llm42_sglang.cli.serve import GroupSize, PageSize
from llm42_sglang.cli.signals import held_back
from llm42_sglang.core.config import Config, ConfigError
from llm42_sglang.core.ranges import ranges
from llm42_sglang.errors import UserError, judging, printable
from llm42_sglang.repro.prompts import BACKGROUND, PROMPTS

TRIAL = (sys.executable, "-m", "llm42_sglang.engine.trial")
COLUMNS = ("architecture", "verdict", "certified step sizes", "flips")
_DEFAULT = Config()
# The last line of a traceback, and the one before it if an assertion says nothing.
_RAISED = re.compile(
    r"^(?:\w+\.)*(\w+(?:Error|Exception): .*)$|^ +(assert .*)\n(?:[ ~^]+\n)?AssertionError$", re.M
)
# SGLang's own error at the end says only that a child has failed.
_IS_CONSEQUENCE = re.compile(r"a process of the Engine failed|Rank \d+ scheduler|exit code: -?\d+")

Found = Mapping[str, Any]  # what `engine.trial` wrote, or what is known without it


class Process(Protocol):
    """A process in a session of its own."""

    pid: int

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status. Raises if it still runs after `timeout` seconds."""


# Starts the trial with these arguments, its output in the log.
Start = Callable[[Sequence[str], Path], Process]


@judging
def certify(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Argument(help="Folder or name; default: the embedded one.")
    ] = None,
    page: PageSize = _DEFAULT.page,
    group: GroupSize = _DEFAULT.group,
    out: Out = None,
) -> None:
    """Load a model without a server, certify it, and count how often verification replaces a token.

    Flags of `sglang serve` are passed on; they follow the model. Status 0: it holds. Status 1: it
    does not, and one line says why. Status 2: bad options.
    """
    require_writable(out)
    if model is not None and model.startswith("-"):
        raise UserError(f"name the model before {model}")
    try:
        config = Config(page=page, group=group)
    except ConfigError as error:
        raise UserError(str(error)) from None
    model = model or str(ensure_default_model(say))
    found = examined(model, config, context.args, cache_dir() / "logs" / "certify.log", spawned)
    workload = {"model": Path(model).name, "page": page, "group": group}
    print(verdict_of(found))
    print(f"| {' | '.join(cells(found))} |", flush=True)
    report.write(found, workload | {"flags": " ".join(context.args)}, out)
    if found["verdict"] != "holds":
        raise typer.Exit(1)


def examined(
    model: str,
    config: Config,
    flags: Sequence[str],
    log: Path,
    start: Start,
    timeout_s: float | None = None,
) -> Found:
    """Put the model on trial in a process of its own: verdict, reason, and what was measured."""
    say(f"loading {model} and certifying it; log: {log}")
    log.parent.mkdir(parents=True, exist_ok=True)
    job = {
        "config": asdict(config),
        "flags": ["--model-path", model, *flags],
        "prompts": PROMPTS,
        "others": BACKGROUND,
    }
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        status = _status_of(start, [str(result), json.dumps(job)], log, timeout_s)
        found = json.loads(result.read_text()) if result.exists() else failure(status, log)
    return {"architecture": _architecture(model), "flips": None, "certificate": None} | found


def spawned(arguments: Sequence[str], log: Path) -> Process:
    """Start the trial with these arguments, its output in the log."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [*TRIAL, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _status_of(
    start: Start, arguments: Sequence[str], log: Path, timeout_s: float | None
) -> int | None:
    """Return the exit status of the trial, None if it was not done in time. Nothing is left."""
    process = None
    try:
        with held_back():
            process = start(arguments, log)
        return process.wait(timeout=timeout_s)
    except (TimeoutError, subprocess.TimeoutExpired):
        return None
    finally:
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def failure(status: int | None, log: Path) -> Found:
    """The verdict on a model whose trial wrote nothing. status: None if it was not done in time."""
    if status is None:
        return {"verdict": "fails", "reason": "it was not done in time"}
    raised = _RAISED.findall(ESCAPES.sub("", log.read_text(errors="replace")))
    said = [message or code for message, code in raised]
    causes = [one for one in said if not _IS_CONSEQUENCE.search(one)]
    return {"verdict": "fails", "reason": causes[-1] if causes else f"it ended with {status}"}


def _architecture(model: str) -> str:
    """The class that the model's folder names; the model's name if it has no such folder."""
    try:
        return json.loads(Path(model, "config.json").read_text())["architectures"][0]
    except (OSError, ValueError, LookupError, TypeError):
        return Path(model).name


def verdict_of(found: Found) -> str:
    """The verdict in one line."""
    said = f"{found['architecture']}: {found['verdict']}"
    if found["verdict"] != "holds":
        return printable(f"{said}: {found['reason']}")
    of = found["certificate"]
    return printable(
        f"{said}: A1, A2 and A3 hold bitwise over {of['passes']} passes; {of['rows']} rows of "
        f"logits and of KV in {of['layers']} layers are the same; answers in load are those alone"
    )


def cells(found: Found) -> tuple[str, ...]:
    """The line of a table, under COLUMNS."""
    why = f": {found['reason']}" if found["reason"] else ""
    verdict = printable(f"{found['verdict']}{why}").replace("|", "\\|")
    sizes = ranges(found["certificate"]["step_sizes"]) or "none" if found["certificate"] else "-"
    return f"`{found['architecture']}`", verdict, sizes, _flips(found["flips"])


def _flips(of: Mapping[str, Mapping[str, int]] | None) -> str:
    """How many verified tokens replaced a candidate, alone and in load."""
    if of is None:
        return "-"
    parts = []
    for name, count in of.items():
        verified = f"{count['flips']} of {count['verified']}"
        parts.append(
            f"{name.replace('_', ' ')} {verified if count['verified'] else 'none verified'}"
        )
    return ", ".join(parts)
