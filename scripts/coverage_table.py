"""docs/results/coverage.json, from Coverage.py's own report: lines of each file, and those missed.

Usage: python -m scripts.coverage_table FOLDER; scripts/coverage calls it, and has put Coverage.py's
report.json there, and the runs of pytest that it counts.
"""

import json
import sys
from pathlib import Path
from typing import Any

from llm42_sglang.core.ranges import ranges

RESULT = Path(__file__).resolve().parents[1] / "docs" / "results" / "coverage.json"
PACKAGE = "llm42_sglang/engine/"


def summary(report: dict[str, Any], counted: list[str]) -> dict[str, Any]:
    """The file's content. report: what `coverage json` writes. counted: runs of pytest."""
    files = {
        name.removeprefix(PACKAGE): {
            "lines": file["summary"]["num_statements"],
            "missed": file["summary"]["missing_lines"],
            "where": ranges(file["missing_lines"]),
        }
        for name, file in sorted(report["files"].items())
        if file["summary"]["num_statements"]
    }
    total = {key: sum(file[key] for file in files.values()) for key in ("lines", "missed")}
    return {"command": "scripts/coverage", "counted": counted, "total": total, "files": files}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    report = json.loads((folder / "report.json").read_text("utf-8"))
    found = summary(report, (folder / "counted").read_text("utf-8").splitlines())
    RESULT.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    run = 1 - found["total"]["missed"] / found["total"]["lines"]
    print(f"{run:.1%} of {found['total']['lines']} lines of llm42_sglang/engine were run")
