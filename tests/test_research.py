"""The simulator of `research/` runs on the protocol and the policy as they are."""

import json
import subprocess
import sys
from pathlib import Path

RESEARCH = Path(__file__).parents[1] / "research"


def test_the_simulator_serves_everybody():
    command = [sys.executable, RESEARCH / "simulate.py", "--requests", "6"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    runs = json.loads(done.stdout.splitlines()[-1])["runs"]
    assert [len(one["reports"]) for one in runs.values()] == [4, 1, 4, 10]
    for report in (report for one in runs.values() for report in one["reports"]):
        served = report["deterministic"]["requests"] + report["ordinary"]["requests"]
        assert served == 6 and report["output_tokens_per_s"] > 0
