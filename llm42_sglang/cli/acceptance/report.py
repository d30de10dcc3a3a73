"""One JSON, one Markdown."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llm42_sglang.cli.acceptance.verdict import Result, Verdict


def passed(results: Sequence[Result]) -> bool:
    """Whether all of them have; no result is no success."""
    return bool(results) and all(result.verdict is Verdict.PASSED for result in results)


def write(folder: Path, environment: dict[str, Any], results: Sequence[Result]) -> None:
    """`acceptance.json` and `acceptance.md`; written anew after every stage."""
    rows = [{**asdict(result), "verdict": result.verdict.value} for result in results]
    content = {"passed": passed(results), "environment": environment, "stages": rows}
    (folder / "acceptance.json").write_text(json.dumps(content, indent=1) + "\n")
    (folder / "acceptance.md").write_text(markdown(environment, results))


def markdown(environment: dict[str, Any], results: Sequence[Result]) -> str:
    """For people."""
    lines = ["# GPU acceptance", ""]
    lines += [f"- {name}: {_short(value)}" for name, value in environment.items()]
    lines += ["", "| stage | verdict | finding | s |", "|---|---|---|---|"]
    for result in results:
        finding = result.finding.replace("|", "\\|")
        lines.append(
            f"| {result.stage} | {result.verdict.value} | {finding} | {result.seconds:.0f} |"
        )
    bad = [result.stage for result in results if result.verdict is not Verdict.PASSED]
    verdict = f"not accepted: {', '.join(bad)}" if bad else f"{len(results)} stages passed"
    return "\n".join([*lines, "", f"**{verdict}**", ""])


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items() if inner is not None)
    if isinstance(value, list):
        return "; ".join(map(_short, value)) or "none"
    return str(value)
