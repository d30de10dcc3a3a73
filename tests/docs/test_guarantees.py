"""The list of guarantees in contributing.md: what holds them, and what must fail, exists."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "contributing.md"
NAMED = re.compile(r"`([\w/]+\.py)(?:::(\w+))?`")


def missing(rows: str) -> list[str]:
    """Files and tests that are named and not there."""
    return [
        f"{file}::{test}"
        for file, test in NAMED.findall(rows)
        if not (TESTS / file).is_file() or f"def {test}" not in (TESTS / file).read_text()
    ]


def test_every_row_names_tests_that_exist():
    page = PAGE.read_text()
    table = page[page.index("| guarantee |") :].split("\n\n")[0]
    rows = table.splitlines()[2:]
    assert len(rows) > 20 and all(len(row.split(" | ")) == 3 for row in rows)
    assert missing(table) == []


def test_a_test_that_is_gone_is_noticed():
    assert missing("`engine/test_natural.py::test_nothing`") and missing("`engine/none.py`")
