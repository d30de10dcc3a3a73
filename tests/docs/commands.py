"""The commands that the documentation names, and whether they exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import yaml
from typer.main import get_command

from llm42_sglang.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
WORKFLOW = ROOT / "examples" / "reproducibility.yml"
# A block is fenced, or indented after an empty line.
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
INDENTED = re.compile(r"(?<=\n\n)((?: {4}.*\n|\n(?= {4}))+)")
FIRST_WORDS = ("llm42", "scripts/", "pytest", "python scripts/")
INLINE = re.compile(r"`((?:llm42|scripts/|pytest -|python scripts/)[^`]*)`")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [body for found, body in FENCED.findall(page) if found == language]


def commands(page: str) -> Iterator[str]:
    """Of a Markdown page: lines of its shell blocks, and commands in a sentence."""
    shell = [*blocks(page, "bash"), *INDENTED.findall(FENCED.sub("", page))]
    for line in "".join(shell).replace("\\\n", " ").splitlines():
        if line.strip().startswith(FIRST_WORDS):
            yield line.strip()
    yield from (one.replace("\\|", "|") for one in INLINE.findall(FENCED.sub("", page)))


def workflow_commands() -> Iterator[str]:
    """Of the example workflow."""
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    for step in job["steps"]:
        for line in step.get("run", "").splitlines():
            if line.strip().startswith(FIRST_WORDS):
                yield line.strip()


def complaint(command: str) -> str | None:
    """What does not exist; None if everything does."""
    words = shlex.split(command.partition("  #")[0].partition(" > ")[0], comments=False)
    if words[0] == "scripts/run":
        words = words[1:] or ["llm42"]
    if words[0] == "scripts/bench":
        words = ["llm42", "bench", *words[1:]]
    if words[0] == "python":
        words = words[1:]
    if words[0].startswith("scripts/"):
        return None if (ROOT / words[0]).exists() else f"no {words[0]}"
    return _llm42(words[1:]) if words[0] == "llm42" else None


def _llm42(words: list[str]) -> str | None:
    """`a | b | ...` stands for several commands of a group."""
    command = get_command(app)
    while words and hasattr(command, "commands"):
        names = " ".join(words).split(" | ")
        if any(" " in name for name in names):
            names = words[:1]
        if unknown := [name for name in names if name not in (*command.commands, "...")]:
            return f"no command {unknown[0]}"
        if len(names) > 1:
            return None
        command, words = command.commands[words[0]], words[1:]
    passes_on = command.context_settings.get("ignore_unknown_options")
    takers = [command, get_command(app).commands["serve"]] if passes_on else [command]
    known = {option for one in takers for parameter in one.params for option in parameter.opts}
    for word in words:
        flag = word.strip("[]").partition("=")[0]
        ours = flag.startswith("--llm42") or not passes_on
        if flag.startswith("--") and ours and flag not in {*known, "--help"}:
            return f"no option {flag}"
    return None
