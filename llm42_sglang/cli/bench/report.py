"""The output of a benchmark: hardware, workload, a table, and JSON as the last line."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm42_sglang.cli.hardware import hardware
from llm42_sglang.cli.output import table
from llm42_sglang.files import write_whole


def show(
    title: str,
    workload: Mapping[str, Any],
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
) -> None:
    """Print hardware, workload and a table."""
    print("hardware:", _pairs(hardware()))
    print("workload:", _pairs(workload))
    table(title, columns, rows)


def finish(result: Mapping[str, Any], workload: Mapping[str, Any], out: Path | None) -> None:
    """Print the JSON in one line. With `out`, write it there too. Raises UserError."""
    print(json.dumps(write(result, workload, out)), flush=True)


def write(
    result: Mapping[str, Any], workload: Mapping[str, Any], out: Path | None
) -> dict[str, Any]:
    """Return the result with command, hardware and workload. With `out`, write it there as JSON.

    Raises UserError.
    """
    command = shlex.join(["llm42", *sys.argv[1:]])
    full = {"command": command, "hardware": hardware(), "workload": dict(workload), **result}
    if out is not None:
        write_whole(out, json.dumps(full, indent=1) + "\n")
    return full


def _pairs(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
