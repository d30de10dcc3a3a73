"""`scripts/simulate.py`: what it ran stands above the tables, and its last line is JSON."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "simulate.py"


def test_the_last_line_holds_every_report():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--requests", "6"], capture_output=True, text=True, check=True
    )
    *text, last = done.stdout.splitlines()
    runs = json.loads(last)["runs"]
    assert [len(run["reports"]) for run in runs.values()] == [4, 1, 4, 10]
    for title, run in runs.items():
        assert any(title in line for line in text)
        assert f"workload: {run['workload']}" in text
        assert all(report["output_tokens_per_s"] > 0 for report in run["reports"])
    assert text[0].startswith("cost model (guesses")
