"""The module table of docs/contributing.md: each module with its docstring's first sentence.

Usage: python scripts/modules.py [PAGE]: print it, or put it in its place in PAGE. A test compares
the page with this. Standard library only.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "llm42_sglang"


def table(root: Path = ROOT) -> str:
    """Markdown, package by package."""
    rows = ["| module | what it is for |", "|---|---|"]
    rows += [f"| `{name}` | {sentence} |" for name, sentence in modules(root)]
    return "\n".join(rows)


def modules(root: Path) -> Iterator[tuple[str, str]]:
    """(path below the package, first sentence), folders in alphabetical order."""
    for path in sorted(root.rglob("*.py"), key=lambda path: (path.parent.parts, path.name)):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        first = re.split(r"(?<=[.?!])\s|\n\n|:\n", " ".join(docstring.split(" ")), maxsplit=1)[0]
        yield str(path.relative_to(root)), " ".join(first.split()).replace("|", "\\|")


def with_table(page: str) -> str:
    """The page, its table of modules replaced."""
    before, head, rest = page.partition("| module |")
    assert head, "the page has no table of modules"
    _, _, after = rest.partition("\n\n")
    return f"{before}{table()}\n\n{after}"


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(table())
    else:
        target = Path(sys.argv[1])
        target.write_text(with_table(target.read_text(encoding="utf-8")), encoding="utf-8")
