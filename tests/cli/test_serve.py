"""`llm42 serve` and `llm42 doctor`, where no server is started."""

import pytest

from llm42_sglang.cli import doctor
from llm42_sglang.core.config import Config
from llm42_sglang.engine.start import launch
from tests.cli.conftest import is_one_line


@pytest.fixture
def served(monkeypatch):
    """The configurations with which `llm42 serve` would have started a server."""
    configs = []
    monkeypatch.setattr(launch, "serve", lambda config, argv: configs.append(config))
    return configs


@pytest.mark.parametrize(
    ("flags", "wait", "message"),
    [
        ("--llm42-wait 8", 8, []),
        ("--llm42-run-ahead 4", 4, ["write --llm42-wait 4"]),
        ("--llm42-wait 100 --llm42-run-ahead 32", 32, ["write --llm42-wait 32"]),
    ],
)
def test_the_flags_of_0_3_still_work_and_a_line_says_what_to_write(
    served, llm42, flags, wait, message
):
    status, _, error = llm42("serve", "--model-path", "x", *flags.split())
    assert status == 0 and served == [Config(wait=wait)]
    assert [line.partition("; ")[2] for line in error.splitlines()] == message


@pytest.mark.parametrize(
    ("flag", "value", "config", "choices"),
    [
        ("weights-digest", "version", Config(weights_digest="version"), "content, version"),
        ("drafts", "ngram", Config(drafts="ngram"), "off, ngram"),
    ],
)
def test_a_setting_with_names_takes_these_and_no_other(served, llm42, flag, value, config, choices):
    status, _, error = llm42("serve", "--model-path", "x", f"--llm42-{flag}", value)
    assert status == 0 and served == [config] and not error
    status, _, line = llm42("serve", "--model-path", "x", f"--llm42-{flag}", "none")
    assert status == 1 and is_one_line(line) and f"choose one of {choices}" in line
    assert len(served) == 1


def test_another_sglang_and_what_is_gone_are_refused_in_one_line(served, monkeypatch, llm42):
    status, _, line = llm42("serve", "--llm42-tune")
    assert status == 1 and is_one_line(line) and "llm42 bench passes" in line
    monkeypatch.setattr(launch, "version", lambda name: "0.5.22")
    status, _, line = llm42("serve")
    assert status == 1 and is_one_line(line) and "0.5.22" in line
    assert "pip install sglang==0.5.23" in line
    assert not served
    checks = {"versions": doctor.CHECKS["versions"], "device": lambda: 1 / 0}
    monkeypatch.setattr(doctor, "CHECKS", checks)
    status, out, _ = llm42("doctor")
    versions, device = (line for line in out.splitlines() if line.startswith(("v", "d")))
    assert status == 1 and "FAILED" in versions and "0.5.22" in versions
    assert "FAILED" in device and "ZeroDivisionError" in device  # a check that breaks is a finding


def test_doctor_is_content_here(llm42):
    status, out, _ = llm42("doctor")
    assert status == 0, out
