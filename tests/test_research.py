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
    assert [len(one["reports"]) for one in runs.values()] == [6, 1, 6, 10]
    for report in (report for one in runs.values() for report in one["reports"]):
        served = report["deterministic"]["requests"] + report["ordinary"]["requests"]
        assert served == 6 and report["output_tokens_per_s"] > 0
        with_steps = report["system"].endswith("canonical")  # all but the first token then
        assert (report["canonical_step_rate"] > 0.9) == with_steps
        verifies = report["deterministic"]["requests"] > 0 and not with_steps
        assert (report["verify_passes"] > 0) == verifies


def test_steps_and_passes_mix_where_some_sizes_are_certified():
    script = """
from dataclasses import replace
from simulator.report import simulate
from simulator.systems import ours
from simulator.workload import Workload

odd = replace(ours(32, 4), certified=range(1, 99, 2))
report = simulate(odd, Workload(requests=40, rate_per_s=5))
assert report.deterministic.requests == 40
assert 0 < report.canonical_step_rate < 0.999 and report.verify_passes
"""
    subprocess.run([sys.executable, "-c", script], cwd=RESEARCH, check=True)
