"""docs/loop.md names what is there: its methods and files, and SGLang's."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sglang.srt.managers.scheduler import Scheduler

from llm42_sglang.engine.loop.verifier import Verifier

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "loop.md").read_text()
OURS = {"sample_own_rows"}  # neither the scheduler's nor the verifier's
PYTHON = {"append", "popleft"}


def defined(file: Path) -> Iterator[str]:
    """Names of a file's functions, classes and fields, those in a class with its name."""
    for node in ast.parse(file.read_text()).body:
        name = getattr(node, "name", None)
        if name is not None:
            yield name
        if isinstance(node, ast.ClassDef):
            yield from (f"{name}.{part.name}" for part in node.body if hasattr(part, "name"))


def unknown(page: str) -> list[str]:
    """Names in backticks, and calls of the pseudocode, that nothing is called."""
    ours = {name for file in (ROOT / "llm42_sglang").rglob("*.py") for name in defined(file)}
    ours |= {name.rpartition(".")[2] for name in ours}
    text, _, rest = page.partition("```text")
    code, _, after = rest.partition("```")
    named = re.findall(r"`([\w.]+)`", text + after)
    problems = [name for name in named if not _is_there(name, ours)]
    for owner, call in re.findall(r"(\w+\.)?(\w+)\(", code):
        holder = Verifier if owner == "verifier." else Scheduler
        if not (hasattr(holder, call) or call in OURS | PYTHON):
            problems.append(call)
    return problems


def _is_there(name: str, ours: set[str]) -> bool:
    if name.startswith("Scheduler."):
        return hasattr(Scheduler, name.removeprefix("Scheduler."))
    return name in ours or name == "output_ids"


def test_every_name_exists():
    assert unknown(PAGE) == []
    assert unknown("`Verifier.gone` ```text\nverifier.lost()\ngone_too()\n```") == [
        "Verifier.gone",
        "lost",
        "gone_too",
    ]


def test_each_row_names_the_file_that_holds_its_first_name():
    rows = re.findall(r"^\| \d+ \|.*$", PAGE, re.M)
    assert len(rows) > 20
    for row in rows:
        names, files = re.findall(r"`([\w.]+)`", row), re.findall(r"\]\((\.\./[\w/.]+)\)", row)
        if files:
            held = {name for file in files for name in defined(ROOT / "docs" / file)}
            assert names[0] in held, row
