"""`scripts/simulate.py` and `sweep.py`: what ran stands above, the last line is JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script: str, *arguments: object) -> tuple[list[str], dict]:
    """What it prints, and its last line."""
    command = [sys.executable, ROOT / "scripts" / script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *text, last = done.stdout.splitlines()
    return text, json.loads(last)


def test_the_last_line_holds_every_report(tmp_path):
    text, result = run("simulate.py", "--requests", 6, "--out", tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == result
    runs = result["runs"]
    assert [len(one["reports"]) for one in runs.values()] == [4, 1, 4, 10]
    for title, one in runs.items():
        assert any(title in line for line in text)
        assert f"workload: {one['workload']}" in text
        assert all(report["output_tokens_per_s"] > 0 for report in one["reports"])
    assert text[0].startswith("cost model (guesses")


def test_a_sweep_decodes_alike_whatever_t_is(tmp_path):
    """What one of the measured servers decoded slower than the next is not T's doing."""
    costs = tmp_path / "costs.json"
    decode = {rows: {"64": 0.1, "512": 0.2} for rows in ("1", "8")}
    slow = {rows: {context: 2 * s for context, s in by.items()} for rows, by in decode.items()}
    passes = {slots: {"0": 0.1, "20": 0.1} for slots in ("1", "8")}
    of_page = {"16": {"pass": passes, "decode": slow}, "32": {"pass": passes, "decode": decode}}
    costs.write_text(json.dumps({"command": "c", "hardware": {"cpu": "x"}, "costs_s": of_page}))
    text, result = run("sweep.py", costs, "--requests", 3)
    assert "cpu" in text[0] and text[1] == f"workload: {result['workload']}"
    models = result["costs"].values()
    assert [model["decode_base_s"] for model in models] == [pytest.approx(0.15)] * 2
    rates = [row["tokens_per_s"] for row in result["settings"]]
    assert rates == sorted(rates, reverse=True)
    assert {(row["page"], row["group"]) for row in result["settings"]} >= {(16, 1), (32, 8)}
