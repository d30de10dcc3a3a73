"""The figures of the pages in PAGES, from what benchmarks wrote to docs/results.

Usage: scripts/run python scripts/results.py. It puts the figures into the pages; a test compares
the pages with the files. The files of a name with a `*` share a section.
"""

import json
from pathlib import Path

from llm42_sglang.files import write_whole
from scripts.figures import costs, fire, loads, models, noticed
from scripts.figures.drills import drills
from scripts.figures.nodes import nodes
from scripts.figures.parts import Result

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
BEGIN, END = "<!-- begin: scripts/results.py -->", "<!-- end -->"
SECTIONS = {  # by name of the file, without `.json`
    "throughput": loads.throughput,
    "turns*": loads.turns,
    "throughput_*": loads.other_throughput,
    "latency": loads.latency,
    "latency_staggered": loads.latency,
    "drafts*": loads.drafts,
    "attention": costs.attention,
    "passes": costs.passes,
    "digest": costs.digest,
    "claims": costs.claims,
    "sweep": costs.sweep,
    "simulation": costs.simulation,
}


def figures(folder: Path = RESULTS) -> str:
    """Markdown for docs/performance.md: a section for each name in SECTIONS that has a file."""
    sections = []
    for name, render in SECTIONS.items():
        if results := _read(folder, name):
            sections.append("\n".join(render(*results)))
    return "\n\n".join(sections)


def summary(folder: Path = RESULTS) -> str:
    """Markdown for README.md: the numbers that matter, in a few lines."""
    return "\n".join(loads.summary(*_read(folder, "latency"), *_read(folder, "turns*")))


def architectures(folder: Path = RESULTS) -> str:
    """Markdown for docs/models.md: the table."""
    return "\n".join(models.models(*_read(folder, "models")))


def traces(folder: Path = RESULTS) -> str:
    """Markdown for docs/fire.md: the tables."""
    parts = ((fire.soak, "soak"), (drills, "drills"), (fire.fuzz, "fuzz"))
    tables = (render(result) for render, name in parts for result in _read(folder, name))
    return "\n\n".join("\n".join(lines) for lines in tables)


def starts(folder: Path = RESULTS) -> str:
    """Markdown for docs/nodes.md: the tables."""
    return "\n".join(line for result in _read(folder, "nodes") for line in nodes(result))


def tests(folder: Path = RESULTS) -> str:
    """Markdown for docs/mutants.md: its tables."""
    parts = (
        ("mutants", "Mutants of core", noticed.mutants),
        ("coverage", "Lines of the engine", noticed.coverage),
    )
    return "\n\n".join(
        "\n".join([f"## {title}", "", *render(result)])
        for name, title, render in parts
        for result in _read(folder, name)
    )


def unused(folder: Path = RESULTS) -> set[str]:
    """Files that nothing shows."""
    shown = {file for name in (*SECTIONS, *OTHERS) for file in folder.glob(f"{name}.json")}
    return {file.name for file in set(folder.glob("*.json")) - shown}


def _read(folder: Path, name: str) -> list[Result]:
    files = sorted(folder.glob(f"{name}.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


OTHERS = (
    "models",
    "soak",
    "drills",
    "fuzz",
    "mutants",
    "coverage",
    "nodes",
)  # on pages of their own
PAGES = {
    ROOT / "README.md": summary,
    ROOT / "docs" / "performance.md": figures,
    ROOT / "docs" / "models.md": architectures,
    ROOT / "docs" / "fire.md": traces,
    ROOT / "docs" / "mutants.md": tests,
    ROOT / "docs" / "nodes.md": starts,
}


def filled(page: str, text: str) -> str:
    """The page with this text in the place for it."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, "the page has no place for the figures"
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def fill() -> None:
    """Put what the files say into all pages."""
    for path, render in PAGES.items():
        page = path.read_text(encoding="utf-8")
        write_whole(path, filled(page, render()))


if __name__ == "__main__":
    fill()
