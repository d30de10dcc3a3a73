"""`llm42 certify` around trials that are made up: verdicts, exit status, the file."""

import json
import sys
import time

import psutil
import pytest

from llm42_sglang.cli import certify
from llm42_sglang.core.config import Config
from tests.cli.conftest import is_one_line

CERTIFICATE = {"passes": 9, "rows": 99, "layers": 3, "step_sizes": [2, 3, 4, 8]}
COUNTS = {"verified": 376, "flips": 3, "rolled_back": 40}
NONE_VERIFIED = {"verified": 0, "flips": 0, "rolled_back": 0}
HOLDS = {
    **{"verdict": "holds", "reason": None, "architecture": "TinyForCausalLM"},
    **{"fingerprint": "ab12", "certificate": CERTIFICATE},
    "flips": {"alone": COUNTS, "in_load": NONE_VERIFIED},
}
ROW = "| `TinyForCausalLM` | holds | 2-4, 8 | alone 3 of 376, in load none verified |"
REFUSED = {"verdict": "refused", "reason": "assumption A3 does not hold"}
WRITE = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(%r)"
ECHO = (
    "import sys, json, pathlib; job = json.loads(sys.argv[2]); reason = repr(job['flags'] + "
    "[job['config']['page'], len(job['prompts'])]); pathlib.Path(sys.argv[1]).write_text("
    "json.dumps({'verdict': 'refused', 'reason': reason}))"
)
LOG = """
[2026-01-01] Scheduler hit an exception: Traceback (most recent call last):
  File "model.py", line 3, in forward
sglang.errors.KernelError: no kernel for sinks | here
  and more
Traceback (most recent call last):
RuntimeError: a process of the Engine failed at its start; its log, above, says why
"""
BARE = """
  File "model.py", line 3, in forward
    assert rows == columns
           ^^^^^^^^^^^^^^^
AssertionError
"""


@pytest.fixture
def model(tmp_path) -> str:
    """A folder with a model's configuration."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["TinyForCausalLM"]}))
    return str(folder)


@pytest.fixture
def trial(monkeypatch, tmp_path):
    """A function that makes every trial run this program."""
    monkeypatch.setenv("LLM42_CACHE", str(tmp_path / "cache"))

    def be(code: str) -> None:
        monkeypatch.setattr(certify, "TRIAL", (sys.executable, "-c", code))

    return be


def test_a_model_that_holds(llm42, trial, model, tmp_path):
    trial(WRITE % json.dumps(HOLDS))
    out = tmp_path / "out.json"
    out.write_text("old")
    status, printed, _ = llm42("certify", model, "--llm42-group", "4", "--out", str(out))
    verdict, row = printed.splitlines()
    assert (
        status == 0 and verdict.startswith("TinyForCausalLM: holds: A1, A2 and A3") and row == ROW
    )
    written = json.loads(out.read_text())
    assert written["hardware"]["sglang"] and written["command"].startswith("llm42")
    assert written["workload"] == {"model": "tiny", "page": 32, "group": 4, "flags": ""}
    assert {name: written[name] for name in HOLDS} == HOLDS
    assert {path.name for path in tmp_path.iterdir()} == {"out.json", "tiny", "cache"}


def test_a_model_that_is_refused(llm42, trial, model, tmp_path):
    trial(WRITE % json.dumps(REFUSED))
    status, printed, _ = llm42("certify", model, "--out", str(tmp_path / "out.json"))
    verdict, row = printed.splitlines()
    assert status == 1 and verdict == "TinyForCausalLM: refused: assumption A3 does not hold"
    assert row == "| `TinyForCausalLM` | refused: assumption A3 does not hold | - | - |"
    assert json.loads((tmp_path / "out.json").read_text())["reason"] == REFUSED["reason"]


def test_answers_that_differ_fail(llm42, trial, model):
    trial(WRITE % json.dumps({**HOLDS, "verdict": "fails", "reason": "2 of 8 answers differ"}))
    status, printed, _ = llm42("certify", model)
    assert status == 1 and printed.startswith("TinyForCausalLM: fails: 2 of 8 answers differ\n")


def test_the_log_says_why_a_model_cannot_be_loaded(llm42, trial, model):
    trial(f"print({LOG!r}); raise SystemExit(3)")
    status, printed, _ = llm42("certify", model)
    verdict, row = printed.splitlines()
    assert status == 1 and verdict.endswith("fails: KernelError: no kernel for sinks | here")
    assert "sinks \\| here | - | - |" in row


def test_an_assertion_without_a_message_is_its_code(llm42, trial, model):
    trial(f"print({BARE!r}); raise SystemExit(3)")
    _, printed, _ = llm42("certify", model)
    assert printed.startswith("TinyForCausalLM: fails: assert rows == columns\n")


def test_a_trial_that_ends_without_a_word(llm42, trial, model):
    trial("raise SystemExit(3)")
    status, printed, _ = llm42("certify", model)
    assert status == 1 and printed.startswith("TinyForCausalLM: fails: it ended with 3\n")


def test_settings_and_flags_reach_the_trial(llm42, trial):
    trial(ECHO)
    _, printed, _ = llm42("certify", "no/folder", "--llm42-page", "64", "--tp-size", "2")
    flags = ["--model-path", "no/folder", "--tp-size", "2"]
    assert printed.startswith(f"folder: refused: {[*flags, 64, 8]}\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--llm42-page", "24"], "choose one of 16, 32, 64"),
        (["--out", "/no/folder/out.json"], "cannot write /no/folder/out.json"),
    ],
)
def test_bad_options_are_one_line(llm42, trial, model, arguments, told):
    trial("raise SystemExit('nobody should be on trial')")
    status, printed, error = llm42("certify", model, *arguments)
    assert status == 2 and printed == "" and is_one_line(error) and told in error


def test_the_model_comes_first(llm42, trial, model):
    status, _, error = llm42("certify", "--tp-size", "2", model)
    assert status == 2 and is_one_line(error) and "name the model before --tp-size" in error


def test_a_trial_has_a_time_limit_and_leaves_no_process(trial, model, tmp_path):
    sleep = [sys.executable, "-c", "import time; time.sleep(60)", str(tmp_path)]
    trial(f"import subprocess; subprocess.run({sleep!r})")
    found = certify.examined(model, Config(), [], tmp_path / "log", certify.spawned, timeout_s=1.0)
    assert (found["verdict"], found["reason"]) == ("fails", "it was not done in time")
    deadline = time.monotonic() + 5
    while left := [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == sleep]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
