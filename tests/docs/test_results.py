"""README and docs/performance.md say what the benchmarks' files say."""

import json
import re
from pathlib import Path

import pytest

from scripts.results import PAGES, RESULTS, SECTIONS, figures, filled

PAGE = RESULTS.parent / "performance.md"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_has_the_figures_of_the_files(path: Path):
    page = path.read_text(encoding="utf-8")
    assert filled(page, PAGES[path]()) == page, "python scripts/results.py"


def test_every_file_has_its_section():
    files = {file.stem for file in RESULTS.glob("*.json")}
    assert files == SECTIONS.keys()
    assert len(re.findall(r"^## ", figures(), re.M)) == len(files)


def test_pictures_on_the_page_are_there():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert pictures and all((PAGE.parent / picture).is_file() for picture in pictures)


SCRIPTS = ("attention", "simulation", "sweep")  # made by scripts of their own
BENCHED = sorted(file for file in RESULTS.glob("*.json") if file.stem not in SCRIPTS)


@pytest.mark.parametrize("file", BENCHED, ids=lambda file: file.stem)
def test_a_file_names_its_command_and_its_machine(file: Path):
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["command"].startswith(f"llm42 bench {file.stem.partition('-')[0]} ")
    assert {"cpu", "cores", "torch", "sglang"} <= result["hardware"].keys()


def test_another_figure_in_a_file_shows(tmp_path: Path):
    """Negative control."""
    result = json.loads((RESULTS / "throughput.json").read_text(encoding="utf-8"))
    result["ratio_to_stock"]["100"] += 0.1
    (tmp_path / "throughput.json").write_text(json.dumps(result))
    changed = figures(tmp_path)
    assert changed and changed not in figures()
