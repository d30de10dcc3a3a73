"""What `llm42 serve` and `llm42 doctor` say without starting anything."""

import pytest

from llm42_sglang.cli import doctor
from llm42_sglang.cli.main import main
from llm42_sglang.core.config import Config
from llm42_sglang.engine import launch


def run(capsys, *arguments: str) -> tuple[int, str, list[str]]:
    """Status, standard output, lines on stderr."""
    with pytest.raises(SystemExit) as left:
        main([*arguments])
    said = capsys.readouterr()
    return left.value.code, said.out, said.err.strip().splitlines()


@pytest.fixture
def served(monkeypatch):
    """The configurations that `llm42 serve` would serve with."""
    configs = []
    monkeypatch.setattr(launch, "serve", lambda config, argv: configs.append(config))
    return configs


@pytest.mark.parametrize(
    ("flags", "wait", "said"),
    [
        ("--llm42-wait 8", 8, []),
        ("--llm42-run-ahead 4", 4, ["write --llm42-wait 4"]),
        ("--llm42-wait 100 --llm42-run-ahead 32", 32, ["write --llm42-wait 32"]),
    ],
)
def test_the_flags_of_0_3_still_work_and_a_line_says_what_to_write(
    served, capsys, flags, wait, said
):
    status, _, lines = run(capsys, "serve", "--model-path", "x", *flags.split())
    assert status == 0 and served == [Config(wait=wait)]
    assert [line.partition("; ")[2] for line in lines] == said


def test_another_sglang_and_what_is_gone_are_refused_in_one_line(served, monkeypatch, capsys):
    status, _, (line,) = run(capsys, "serve", "--llm42-tune")
    assert status == 1 and "llm42 bench passes" in line
    monkeypatch.setattr(launch, "version", lambda name: "0.5.22")
    status, _, (line,) = run(capsys, "serve")
    assert status == 1 and "0.5.22" in line and "pip install sglang==0.5.23" in line
    assert not served
    checks = {"versions": doctor.CHECKS["versions"], "device": lambda: 1 / 0}
    monkeypatch.setattr(doctor, "CHECKS", checks)
    status, out, _ = run(capsys, "doctor")
    versions, device = (line for line in out.splitlines() if line.startswith(("v", "d")))
    assert status == 1 and "FAILED" in versions and "0.5.22" in versions
    assert "FAILED" in device and "ZeroDivisionError" in device  # a check that breaks is a finding


def test_doctor_is_content_here(capsys):
    status, out, _ = run(capsys, "doctor")
    assert status == 0, out
