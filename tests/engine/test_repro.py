"""record, check, replay, probe and the pytest plugin on a real server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llm42_sglang.core.receipts import fingerprint
from llm42_sglang.repro.golden import load_golden
from tests.engine import client
from tests.engine.conftest import llm42

pytestmark = pytest.mark.server("tiny")

SAMPLE = Path(__file__).parents[1] / "pytest_plugin" / "sample"


def test_the_server_says_what_its_fingerprint_is_made_of(url, reference):
    body = client.get(url, "/llm42/fingerprint").json()
    assert body["fingerprint"] == reference[0].meta["llm42"]["fingerprint"]
    assert fingerprint(body["facts"]) == body["fingerprint"]
    assert len(body["facts"]["weights"]) == 64 and body["facts"]["page"] == client.T


def test_what_was_recorded_passes_in_load_from_the_cache_and_as_a_stream(
    url, golden, capsys, tmp_path
):
    report = tmp_path / "report.html"
    how = ("--conditions", "load,warm,streaming", "--in-flight", 4, "--report", report)
    status = llm42("check", golden, "--url", url, *how)
    said = capsys.readouterr().out
    assert status == 0, said
    assert said.splitlines()[-1] == "PASSED: 4 of 4 cases passed"
    assert said.count("same bits under 3 conditions, verified") == 4
    (block,) = load_golden(golden).blocks
    assert all(len(o.ids) == 40 and o.logprobs for o in block.outputs.values())
    assert "<h1>PASSED</h1>" in report.read_text()


def test_receipts_are_authentic_and_forged_ones_are_not(url, golden, capsys, tmp_path):
    receipts = golden.parent / "receipts"
    assert llm42("replay", receipts / "chat.json", "--url", url) == 0
    assert llm42("replay", receipts / "sampled.json", "--url", url) == 0
    saved = json.loads((receipts / "sampled.json").read_text())
    saved["request"]["sampling_params"]["sampling_seed"] += 1
    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps(saved))
    assert llm42("replay", forged, "--url", url) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("NOT AUTHENTIC: ")


def test_probe_sees_that_ordinary_answers_follow_the_load(url, capsys):
    """Tokens part in some prompts of many; logprobs, here, in all."""
    sizes = ("--prompts", 4, "--repeats", 1, "--in-flight", 8, "--max-tokens", 48)
    assert llm42("probe", "--url", url, *sizes) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["logprob_spread_max"] > 0


def test_the_pytest_plugin_records_and_passes(url, tmp_path):
    project = tmp_path / "sample"
    shutil.copytree(SAMPLE, project)
    env = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "llm42_sglang.pytest_plugin", "-q"]
    command += ["--llm42-url", url, "-o", "llm42_conditions=alone load", "-k", "capital"]
    for more in (["--llm42-update"], []):
        done = subprocess.run(
            [*command, *more], cwd=project, env=env, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
